"""Pushes and pulls that are cut, with files that change, over a platform in memory."""

from __future__ import annotations

import hashlib
import os
import random
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaon.datasets import batches as batching
from kaon.datasets.batches import batches
from kaon.datasets.push import NoSteps, manifest_of_folder, send_missing
from kaon.datasets.receive import pull
from kaon.errors import InvalidInput, KaonError, Unavailable
from kaon.laws.datasets import ranges
from kaon.types.dataset import DatasetFile, DatasetManifest

LARGE = 3000


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is large is small here."""
    monkeypatch.setattr(batching, "LARGE_BYTES", LARGE)
    monkeypatch.setattr(batching, "BATCH_BYTES", 500)
    monkeypatch.setattr(batching, "BATCH_FILES", 4)
    monkeypatch.setattr("kaon.datasets.push.PART_BYTES", 1000)


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Platform:
    """Keeps files; `faults` requests fail in the middle, chosen by chance."""

    def __init__(self, faults: int = 0, seed: int = 0) -> None:
        self.kept: dict[str, bytes] = {}
        self.parts: dict[str, bytes] = {}
        self.manifest: DatasetManifest | None = None
        self.faults = faults
        self.sent_bytes = 0
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def _fails(self) -> bool:
        with self._lock:
            self.faults -= 1
            return self.faults >= 0

    def begin(self, manifest: DatasetManifest) -> Sequence[tuple[int, int]]:
        self.manifest = manifest
        return ranges(i for i, file in enumerate(manifest.files) if file.digest not in self.kept)

    def send(self, first: int, count: int, content: Iterator[bytes], size_bytes: int) -> None:
        assert self.manifest
        data, fails = b"".join(content), self._fails()
        assert len(data) == size_bytes
        for file in self.manifest.files[first : first + (count // 2 if fails else count)]:
            one, data = data[: file.size_bytes], data[file.size_bytes :]
            if digest(one) != file.digest:
                raise InvalidInput("other content")
            self.kept[file.digest] = one
            self.sent_bytes += len(one)
        if fails:
            raise Unavailable("cut")

    def received(self, digest: str) -> int:
        return len(self.parts.get(digest, b""))

    def append(self, file: DatasetFile, offset: int, content: bytes) -> None:
        assert offset == self.received(file.digest)
        fails = self._fails()
        part = content[: self._random.randrange(len(content))] if fails else content
        self.parts[file.digest] = self.parts.get(file.digest, b"") + part
        self.sent_bytes += len(part)
        if fails:
            raise Unavailable("cut")

    def take(self, of: str) -> None:
        assert digest(self.parts[of]) == of
        self.kept[of] = self.parts.pop(of)

    def files(self, first: int, count: int, offset: int = 0) -> Iterator[bytes]:
        assert self.manifest
        data = b"".join(self.kept[file.digest] for file in self.manifest.files[first : first + count])[offset:]
        fails = self._fails()
        end = self._random.randrange(len(data) + 1) if fails else len(data)
        self.sent_bytes += end
        for start in range(0, end, 170):
            yield data[start : min(end, start + 170)]
        if fails:
            raise Unavailable("cut")


def fill(folder: Path, seed: int, count: int = 30) -> dict[str, bytes]:
    chance = random.Random(seed)
    made = {}
    for number in range(count):
        path = f"{chance.choice('abc')}/{number}"
        made[path] = chance.randbytes(chance.choice((0, 1, 100, 400, LARGE - 1, LARGE, 3 * LARGE)))
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(made[path])
    return made


@pytest.mark.parametrize("seed", range(5))
def test_cut_requests_cost_what_was_not_kept(tmp_path: Path, seed: int) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    made = fill(source, seed)
    platform = Platform(faults=3, seed=seed)
    manifest = manifest_of_folder(source, NoSteps())
    waits: list[float] = []
    send_missing(platform, source, manifest, NoSteps(), waits.append)
    assert waits
    assert {file.path: platform.kept[file.digest] for file in manifest.files} == made
    platform.faults = 3
    pull(platform, manifest, target, sleep=waits.append)
    assert {str(p.relative_to(target)): p.read_bytes() for p in target.rglob("*") if p.is_file()} == made


def test_a_large_file_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    data = os.urandom(100_000)
    (source / "large").write_bytes(data)
    platform = Platform()
    manifest = manifest_of_folder(source, NoSteps())
    platform.begin(manifest)
    platform.append(manifest.files[0], 0, data[:90_000])
    platform.sent_bytes = 0
    send_missing(platform, source, manifest, NoSteps())
    assert platform.sent_bytes == 10_000
    platform.sent_bytes, platform.faults = 0, 2
    pull(platform, manifest, tmp_path / "out", sleep=lambda _: None)
    assert platform.sent_bytes == 100_000
    assert (tmp_path / "out" / "large").read_bytes() == data
    assert os.listdir(tmp_path / "out") == ["large"]


def test_a_platform_that_stays_away_is_an_error_and_nothing_incomplete_is_in_its_place(tmp_path: Path) -> None:
    source = tmp_path / "in"
    fill(source, 1)
    platform = Platform()
    manifest = manifest_of_folder(source, NoSteps())
    send_missing(platform, source, manifest, NoSteps())
    platform.faults = 10**6
    with pytest.raises(Unavailable):
        pull(platform, manifest, tmp_path / "out", sleep=lambda _: None)
    by_path = {file.path: file.digest for file in manifest.files}
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file() and not path.name.endswith(".part"):
            assert digest(path.read_bytes()) == by_path[str(path.relative_to(tmp_path / "out"))]


def test_a_file_that_changes_while_it_is_sent_is_refused(tmp_path: Path) -> None:
    for change in (b"other", b"longer than before", b""):
        folder = tmp_path / str(len(change))
        folder.mkdir()
        (folder / "a").write_bytes(b"first")
        manifest = manifest_of_folder(folder, NoSteps())
        (folder / "a").write_bytes(change)
        with pytest.raises(KaonError):
            send_missing(Platform(), folder, manifest, NoSteps(), lambda _: None)


def test_wrong_bytes_from_the_platform_are_never_kept(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name, size in (("small", 10), ("large", LARGE)):
        (source / name).write_bytes(b"x" * size)
    platform = Platform()
    manifest = manifest_of_folder(source, NoSteps())
    send_missing(platform, source, manifest, NoSteps())
    platform.kept = {name: b"y" * len(data) for name, data in platform.kept.items()}
    with pytest.raises(Unavailable, match="digest"):
        pull(platform, manifest, tmp_path / "out", sleep=lambda _: None)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


@settings(max_examples=50)
@given(st.lists(st.integers(0, 4000), min_size=1, max_size=30), st.sets(st.integers(0, 29)))
def test_batches_have_each_file_once_in_order(sizes: list[int], wanted: set[int]) -> None:
    files = tuple(
        DatasetFile(path=f"{n:02}", size_bytes=size, digest=digest(b"%d" % n)) for n, size in enumerate(sizes)
    )
    indexes = sorted(index for index in wanted if index < len(files))
    found = list(batches(DatasetManifest(files=files), indexes))
    assert [batch.first + n for batch in found for n in range(len(batch.files))] == indexes
    assert all(batch.files == files[batch.first : batch.first + len(batch.files)] for batch in found)
    assert all(len(batch.files) == 1 or batch.size_bytes <= batching.BATCH_BYTES for batch in found)
