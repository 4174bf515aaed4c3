"""Every driver passes the same suite."""

import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kaon.clock import SystemClock
from kaon.drivers.fake import FakeDriver, FakePlace
from kaon.drivers.port import Addresses
from kaon.testing.drivers import DriverContract
from kaon.testing.places import ProcessPlace


class InMemory:
    """The fake's place, as the suite wants it."""

    artifact = f"sha256:{'0' * 64}"

    def __init__(self, addresses: Addresses) -> None:
        self.fake = FakePlace(SystemClock(), addresses=addresses)

    def driver(self) -> FakeDriver:
        return FakeDriver(self.fake)


class TestFakeDriver(DriverContract):
    @pytest.fixture(params=Addresses)
    def place(self, request: pytest.FixtureRequest) -> InMemory:
        return InMemory(request.param)


class TestProcessDriver(DriverContract):
    @pytest.fixture
    async def place(self, tmp_path: Path) -> AsyncIterator[ProcessPlace]:
        run_dir = Path(tempfile.mkdtemp(prefix="kaon-"))
        place = ProcessPlace(tmp_path, run_dir)
        yield place
        await place.close()
        shutil.rmtree(run_dir)
