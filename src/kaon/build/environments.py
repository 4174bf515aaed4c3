"""Virtual environments, one per lock, shared by all replicas that need it and changed by none.

An environment holds what its lock names and nothing else. The platform's own packages come after it on the path,
by one `.pth` file, so that `kaon` is there without being installed again; locks are made under the platform's
versions, so what both have is the same. No lock needs no environment: the platform's own interpreter serves.

Made beside its place under a lock file that the kernel drops with the process, and renamed when whole: a folder
that is there is complete. The name is the lock's hash and eight digits of the platform that stands behind it, so
another Python or another place of Kaon gives another environment. Files are hard links into uv's cache; that is
why nobody may write to them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kaon.build.installer import run_uv
from kaon.build.installing import InstallProgress
from kaon.build.locks import check_lock
from kaon.errors import BuildError

_PATH_FILE = "kaon-platform.pth"
_INSTALL_HINT = "Where packages are is said by UV_INDEX_URL and the like, in the environment that Kaon was started in."


def lock_hash(lock_text: str) -> str:
    """The name of a lock, 64 hex digits; empty for an empty one. As `Manifest.lock`."""
    return hashlib.sha256(lock_text.encode()).hexdigest() if lock_text else ""


class Environments:
    """The environments below one folder. Safe to use from many threads and processes at once."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def find(self, lock_text: str) -> Path | None:
        """The interpreter for `lock_text` when its environment is here already."""
        if not check_lock(lock_text):
            return Path(sys.executable)
        python = self._folder(lock_text) / "bin" / "python"
        return python if python.exists() else None

    def ensure(
        self,
        lock_text: str,
        *,
        wheels: Sequence[Path] = (),
        options: Sequence[str] = (),
        allow_sdist: bool = False,
        progress: Callable[[str], None] = lambda _: None,
    ) -> Path:
        """The interpreter of the environment that `lock_text` names, made now when it is not here.

        Packages come from the folders `wheels`, from where `options` of uv say, and from the indexes that the
        environment of this process names; built from their sources only with `allow_sdist`. Blocks while it, or
        somebody else, makes it; `progress` is called with what is being done, from any thread. Needs no network when
        uv's cache has the packages. Raises `InvalidInput` when the lock is more than pinned names with hashes,
        `BuildError` when it cannot be installed or takes too long.
        """
        found = self.find(lock_text)
        if found is not None:
            return found
        folder = self._folder(lock_text)
        self._root.mkdir(parents=True, exist_ok=True)
        with _held(self._root / f".{folder.name}.lock"):
            if not folder.exists():
                beside = self._root / f".{folder.name}.part"
                _delete(beside)  # of a process that died here
                places = [text for place in wheels if place.is_dir() for text in ("--find-links", str(place))]
                _make(beside, lock_text, [*places, *options, *([] if allow_sdist else ["--no-build"])], progress)
                beside.rename(folder)
        return folder / "bin" / "python"

    def prune(self, keep: Collection[str]) -> list[str]:
        """Delete environments whose lock's hash is not in `keep`; return the hashes of those that went.

        One that is being made is left alone.
        """
        gone = []
        for folder in sorted(self._root.glob("[0-9a-f]*-*")):
            name = folder.name.partition("-")[0]
            if name in keep:
                continue
            with _held(self._root / f".{folder.name}.lock", wait=False) as held:
                if held:
                    dead = self._root / f".{folder.name}.part"
                    _delete(dead)
                    folder.rename(dead)
                    _delete(dead)
                    gone.append(name)
        return gone

    def _folder(self, lock_text: str) -> Path:
        behind = "\n".join([sys.version, *_platform_paths()])
        return self._root / f"{lock_hash(lock_text)}-{hashlib.sha256(behind.encode()).hexdigest()[:8]}"


@contextmanager
def _held(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock file; tells whether it is held, which without `wait` it may not be."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


def _platform_paths() -> list[str]:
    """Where the platform's packages are, and Kaon itself when it runs from its sources."""
    paths = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), str(Path(__file__).parents[2])]
    return list(dict.fromkeys(paths))


def _make(folder: Path, lock_text: str, more: Sequence[str], progress: Callable[[str], None]) -> None:
    installing = InstallProgress(lock_text)

    def read(line: str) -> None:
        if (doing := installing.after(line)) is not None:
            progress(doing)

    progress("making the environment")
    run_uv(
        ["venv", "--quiet", "--relocatable", "--no-project", "--python", sys.executable, str(folder)],
        "The environment cannot be made.",
    )
    wanted = folder / "requirements.lock"
    wanted.write_text(lock_text)
    python = str(folder / "bin" / "python")
    how = ["--require-hashes", "--link-mode", "hardlink", "--compile-bytecode", "--python", python]
    sync = ["pip", "sync", *how, *more, str(wanted)]
    run_uv(sync, "The requirements cannot be installed.", _INSTALL_HINT, on_line=read)
    packages = next(folder.glob("lib/python*/site-packages"), None)
    if packages is None:
        raise BuildError("The environment was made without a place for packages.")
    (packages / _PATH_FILE).write_text("\n".join(_platform_paths()) + "\n")
    _seal(folder)


def _seal(folder: Path) -> None:
    """Take away the right to write, but from the folder itself, which is yet to be renamed."""
    for directory, _, names in os.walk(folder):
        for path in (Path(directory) / name for name in names):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & 0o555)
        Path(directory).chmod(0o755 if directory == str(folder) else 0o555)


def _delete(folder: Path) -> None:
    if not folder.is_dir():
        return
    for directory, _, _ in os.walk(folder):
        Path(directory).chmod(0o700)
    shutil.rmtree(folder)
