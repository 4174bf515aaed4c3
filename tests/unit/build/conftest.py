"""A project to build, and a package index of one folder, so that no test needs the network."""

from __future__ import annotations

import base64
import functools
import hashlib
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from kaon.build.requirements import name_of
from kaon.build.runtime_wheel import installed_requirements

SERVICE = """
import kaon

@kaon.service
class Greeter:
    '''Says hello.'''

    @kaon.endpoint
    def greet(self, name: str) -> str:
        return f"Hello, {name}!"
"""


def repacked_wheel(folder: Path, distribution: metadata.Distribution) -> None:
    """A wheel of an installed distribution, so that its requirements are met without a network."""
    files = {
        str(file): Path(str(distribution.locate_file(file))).read_bytes()
        for file in distribution.files or ()
        if ".." not in file.parts and "__pycache__" not in file.parts and file.name not in ("RECORD", "INSTALLER")
    }
    info = next(name for name in files if name.endswith(".dist-info/WHEEL"))
    tags = [line.removeprefix("Tag: ").split("-") for line in files[info].decode().splitlines() if "Tag: " in line]
    tag = "-".join(".".join(dict.fromkeys(parts)) for parts in zip(*tags, strict=True))
    record = info.replace("/WHEEL", "/RECORD")
    lines = [f"{name},sha256={record_hash(content)},{len(content)}\n" for name, content in files.items()]
    with zipfile.ZipFile(folder / f"{info.partition('.dist-info')[0]}-{tag}.whl", "w") as wheel:
        for name, content in {**files, record: "".join(lines).encode()}.items():
            wheel.writestr(zipfile.ZipInfo(name), content)


def record_hash(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


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
            record.append(f"{file},sha256={record_hash(text.encode())},{len(text)}\n")
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


@pytest.fixture(scope="session")
def runtime_wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The requirements of kaon-runtime as wheels, in the versions that are installed here."""
    folder = tmp_path_factory.mktemp("runtime-wheels")
    installed = installed_requirements()
    for name in installed:
        repacked_wheel(folder, metadata.distribution(name))
        for text in metadata.requires(name) or ():
            if name_of(text) not in installed and "extra ==" not in text:  # of other systems
                written_wheel(folder, name_of(text).replace("-", "_"), "9.0", "")
    return folder


@pytest.fixture(scope="session")
def uv_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of uv for all tests of this process."""
    return tmp_path_factory.mktemp("uv-cache")


@pytest.fixture
def wheels(tmp_path: Path, runtime_wheels: Path, uv_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder from which uv gets all packages but the runtime's requirements."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    written_wheel(folder, "tinymath", "1.0", "def double(x):\n    return 2 * x\n")
    written_wheel(folder, "tinymath", "1.1", "def double(x):\n    return x + x\n")
    settings = tmp_path / "uv.toml"
    settings.write_text(f"[pip]\nno-index = true\nfind-links = ['{folder}', '{runtime_wheels}']\n")
    monkeypatch.setenv("UV_CONFIG_FILE", str(settings))
    monkeypatch.setenv("UV_CACHE_DIR", str(uv_cache))
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with one service."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "greeter.py").write_text(SERVICE)
    return folder
