"""A project to build, and a package index of one folder, so that no test needs the network."""

from __future__ import annotations

import base64
import functools
import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

SERVICE = """
import kaon

@kaon.service
class Greeter:
    '''Says hello.'''

    @kaon.endpoint
    def greet(self, name: str) -> str:
        return f"Hello, {name}!"
"""


def written_wheel(folder: Path, name: str, version: str, source: str, requires: str = "") -> Path:
    """A wheel with one module."""
    record, path = [], folder / f"{name}-{version}-py3-none-any.whl"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files = {
        f"{name}.py": source,
        f"{name}-{version}.dist-info/METADATA": metadata + (f"Requires-Dist: {requires}\n" if requires else ""),
        f"{name}-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record.append(f"{file},sha256={digest},{len(text)}\n")
            wheel.writestr(zipfile.ZipInfo(file), text)
        wheel.writestr(f"{name}-{version}.dist-info/RECORD", "".join(record))
    return path


@pytest.fixture
def make_wheel() -> Callable[..., Path]:
    """Writes a wheel of one module into a folder."""
    return written_wheel


@pytest.fixture
def add_wheel(wheels: Path) -> Callable[..., Path]:
    """Puts another package, of one module, into `wheels`."""
    return functools.partial(written_wheel, wheels)


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that uv takes packages from, and nothing else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    written_wheel(folder, "tinymath", "1.0", "def double(x):\n    return 2 * x\n")
    written_wheel(folder, "tinymath", "1.1", "def double(x):\n    return x + x\n")
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with one service."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "greeter.py").write_text(SERVICE)
    return folder
