"""Virtual environments, one per lock, shared by all replicas that need it and changed by none.

An environment holds the packages of its lock, the distribution `kaon-runtime`, and nothing else: none of the platform's
own packages. Locks of Kaon contain the runtime's requirements. Those of them that the lock has in the platform's
versions, or does not have (the empty lock of a service without requirements; a lock of another tool or an older Kaon),
are linked from the platform's environment: they need no network and are compiled already.

An environment is made beside its place under a lock file that the kernel releases with the process, and is renamed when
it is complete: an existing folder is complete. Its name is the lock's hash and eight digits for the Python, the runtime
and the packages of the platform in it. Files are hard links into the cache of uv, which is why they are read-only.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from importlib.util import cache_from_source
from pathlib import Path

from kaon.build import runtime_wheel
from kaon.build.installer import incompatibilities, run_uv
from kaon.build.installing import InstallProgress
from kaon.build.limits import LOCK
from kaon.build.locks import check_lock, pins
from kaon.build.requirements import sha256_of
from kaon.errors import BuildError

_DEFAULT = "default"
"""The name of the environment of services without requirements, where others have their lock's hash."""
_RUNTIME = "runtime"
"""The folder of the runtime's wheel, among the environments."""
_INSTALL_HINT = "Set package indexes by UV_INDEX_URL and the like in the environment in which Kaon is started."


def lock_hash(lock_text: str) -> str:
    """The hash of a lock, 64 hex digits; empty for an empty lock. The same as `Manifest.lock`."""
    return hashlib.sha256(lock_text.encode()).hexdigest() if lock_text else ""


class Environments:
    """The environments in one folder. Safe to use from many threads and processes at once."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def find(self, lock_text: str) -> Path | None:
        """The interpreter for `lock_text` when its environment exists. Raises `InvalidInput` for an invalid lock."""
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
        """The interpreter of the environment for `lock_text`, which is made when it does not exist.

        Packages come from the folders `wheels`, from the indexes in `options` of uv, and from those in this process's
        environment; they are built from sources only with `allow_sdist`. Blocks while this or another process makes the
        environment; `progress` is called with the current activity, from any thread. Needs no network when uv's cache
        has the packages. Raises `InvalidInput` when the lock has more than pinned names with hashes, `BuildError` when
        it cannot be installed, does not fit the runtime, or takes too long.
        """
        found = self.find(lock_text)
        if found is not None:
            return found
        folder = self._folder(lock_text)
        self._root.mkdir(parents=True, exist_ok=True)
        with _held(self._root / f".{folder.name}.lock"):
            if not folder.exists():
                part = self._root / f".{folder.name}.part"
                _delete(part)  # of a process that died here
                folders = [text for each in wheels if each.is_dir() for text in ("--find-links", str(each))]
                more = [*folders, *options, *([] if allow_sdist else ["--no-build"])]
                _make(part, lock_text, self._runtime_wheel(), more, progress)
                part.rename(folder)
        return folder / "bin" / "python"

    def prune(self, keep: Collection[str]) -> list[str]:
        """Delete environments whose lock's hash is not in `keep` (empty: of no lock); returns the deleted hashes.

        An environment that is being made stays.
        """
        gone, kept = [], {name or _DEFAULT for name in keep}
        for folder in sorted(self._root.glob("[0-9a-f]*-*")):
            name = folder.name.partition("-")[0]
            if name in kept:
                continue
            with _held(self._root / f".{folder.name}.lock", wait=False) as held:
                if held:
                    part = self._root / f".{folder.name}.part"
                    _delete(part)
                    folder.rename(part)
                    _delete(part)
                    gone.append(name)
        return gone

    def _folder(self, lock_text: str) -> Path:
        linked = (f"{name}=={version}" for name, version in _linked(lock_text).items())
        key = "\n".join([sys.version, runtime_wheel.digest(), *linked])
        return self._root / f"{lock_hash(lock_text) or _DEFAULT}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"

    def _runtime_wheel(self) -> Path:
        """The file of the runtime's wheel, written once for each version."""
        place = self._root / _RUNTIME / runtime_wheel.digest()[:12]
        with _held(self._root / f".{_RUNTIME}.lock"):
            return next(place.glob("*.whl"), None) or runtime_wheel.write(place)


def _linked(lock_text: str) -> dict[str, str]:
    """Packages that the runtime needs, with the platform's versions, unless the lock has another version."""
    locked, installed = check_lock(lock_text), runtime_wheel.installed_requirements()
    return {name: version for name, version in installed.items() if locked.get(name, {version}) == {version}}


@contextmanager
def _held(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock file; yields whether it is held, which may be False without `wait`."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


def _make(folder: Path, lock_text: str, runtime: Path, more: Sequence[str], progress: Callable[[str], None]) -> None:
    linked = _linked(lock_text)
    rest = "".join(f"{pin.line}\n" for pin in pins(lock_text) if pin.name not in linked)
    install_progress = InstallProgress(rest)

    def read(line: str) -> None:
        if (activity := install_progress.after(line)) is not None:
            progress(activity)

    progress("making the environment")
    run_uv(
        ["venv", "--quiet", "--relocatable", "--no-project", "--python", sys.executable, str(folder)],
        "The environment cannot be made.",
    )
    packages = next(folder.glob("lib/python*/site-packages"), None)
    if packages is None:
        raise BuildError("uv made an environment without a folder for packages.")
    for name in linked:
        _link(metadata.distribution(name), packages)
    requirements = folder / LOCK
    own = " ".join((runtime_wheel.NAME, "@", runtime.as_uri(), f"--hash=sha256:{sha256_of(runtime)}"))
    requirements.write_text(rest + own + "\n")
    python = folder / "bin" / "python"
    how = ["--no-deps", "--require-hashes", "--link-mode", "hardlink", "--compile-bytecode", "--python", str(python)]
    run_uv(
        ["pip", "install", *how, *more, "-r", str(requirements)],
        "The requirements cannot be installed.",
        _INSTALL_HINT,
        on_line=read,
    )
    if lock_text:
        _check(python, {runtime_wheel.NAME, *linked})
    _seal(folder)


def _link(distribution: metadata.Distribution, packages: Path) -> None:
    """Hard-link the files of an installed distribution, except its scripts, into another environment."""
    for file in distribution.files or ():
        if ".." in file.parts or "__pycache__" in file.parts:
            continue
        source = Path(str(distribution.locate_file(file)))
        _link_file(source, packages / file)
        if source.suffix == ".py":
            compiled = Path(cache_from_source(str(source)))
            _link_file(compiled, packages / file.parent / compiled.parent.name / compiled.name)


def _link_file(source: Path, target: Path) -> None:
    if not source.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def _check(python: Path, names: Collection[str]) -> None:
    """Raise `BuildError` when the lock does not fit a package of `names`, which are installed beside its own."""
    for name, problem in incompatibilities(python):
        if name in names:
            raise BuildError(
                f"{LOCK} does not fit {name}, which {problem}.",
                hint=f"Build again with a new lock: delete {LOCK}, then run `kaon deploy`.",
            )


def _seal(folder: Path) -> None:
    """Remove write permissions, except from the folder itself, which must still be renamed."""
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
