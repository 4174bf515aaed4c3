"""The distribution `kaon-runtime`: the part of Kaon that runs inside a service's process, as a wheel.

The wheel is written from the files of the running Kaon, a release or a working tree, and needs neither a build backend
nor a network. It has `FILES` only; contracts in .importlinter and a test keep their imports within them. It has wide
ranges of requirements, since they must fit together with a service's own. The distribution `kaon` has the same files
and the platform around them, so an environment needs only one of the two.

`python -m kaon.build.runtime_wheel FOLDER` writes the wheel of a release.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from kaon.build.requirements import name_of
from kaon.version import __version__

NAME = "kaon-runtime"
FILES = (
    "__init__.py",
    "client/**/*.py",
    "clock.py",
    "context.py",
    "errors.py",
    "laws/__init__.py",
    "laws/admit.py",
    "laws/batch.py",
    "laws/service_time.py",
    "log.py",
    "login_throttle.py",
    "py.typed",
    "runtime/**/*.py",
    "sdk/**/*.py",
    "sdk/docs/page.*",
    "types/**/*.py",
    "version.py",
)
"""Patterns below the folder of `kaon`."""
REQUIRES = (
    "httptools>=0.6",
    "httpx2>=2.0",
    "prometheus-client>=0.16",
    "pydantic>=2.5",
    "python-multipart>=0.0.9",
    "starlette>=0.36.3",
    "structlog>=23.1",
    "typing-extensions>=4.8",
    "uvicorn>=0.53",
    "uvloop>=0.18",
    "websockets>=13",
)
"""Requirements; `make test-runtime-lowest` runs the runtime's tests with the lowest and the newest versions."""

_PACKAGE = Path(__file__).parents[1]
_METADATA = f"""\
Metadata-Version: 2.4
Name: {NAME}
Version: {__version__}
Summary: The part of Kaon that runs inside a service's process.
License-Expression: Apache-2.0
Requires-Python: >=3.11
"""
_WHEEL = "Wheel-Version: 1.0\nGenerator: kaon\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@lru_cache(maxsize=1)
def contents() -> Mapping[str, bytes]:
    """The wheel's files by path, RECORD last; read once per process, so that they stay those of the running code."""
    found = {path for pattern in FILES for path in _PACKAGE.glob(pattern)}
    files = {f"kaon/{path.relative_to(_PACKAGE).as_posix()}": path.read_bytes() for path in sorted(found)}
    info = f"kaon_runtime-{__version__}.dist-info"
    files[f"{info}/METADATA"] = (_METADATA + "".join(f"Requires-Dist: {line}\n" for line in REQUIRES)).encode()
    files[f"{info}/WHEEL"] = _WHEEL.encode()
    record = "".join(f"{path},sha256={_record_hash(content)},{len(content)}\n" for path, content in files.items())
    return files | {f"{info}/RECORD": f"{record}{info}/RECORD,,\n".encode()}


def _record_hash(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def digest() -> str:
    """A hash of the wheel's contents, 64 hex digits."""
    return hashlib.sha256(list(contents().values())[-1]).hexdigest()


def write(folder: Path) -> Path:
    """Write the wheel into `folder`, which is made; equal contents give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"kaon_runtime-{__version__}-py3-none-any.whl"
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".new", delete=False) as beside:
        with zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as wheel:
            for name, content in contents().items():
                wheel.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
        os.chmod(beside.name, 0o644)
    os.replace(beside.name, path)  # a process that is killed here leaves no half of a wheel
    return path


def installed_requirements() -> dict[str, str]:
    """The packages that the runtime needs, with all that they need, in the versions that are installed here."""
    return dict(_installed(REQUIRES))


def _installed(requires: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    pending, visited = [name_of(text) for text in requires], set[str]()
    while pending:
        name = pending.pop()
        if name in visited:
            continue
        visited.add(name)
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # required on another system or Python only
        yield name, distribution.version
        pending += [name_of(text) for text in distribution.requires or [] if not re.search(r"\bextra\s*==", text)]


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
