"""Turns a class and its project into an artifact: collect, lock, stage, inspect, pack, and read back.

The files are copied to a stage first, and both the inspection and the archive are made from the stage: what was
looked at is what is shipped, an edit in between cannot tear it, and a file that was left out is missed now, not
when a replica starts.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

from kaon.build import archive, missed
from kaon.build.collecting import LeftOut, PackedFiles, collect
from kaon.build.environments import Environments, lock_hash
from kaon.build.installer import clean_environment
from kaon.build.limits import DEFAULT_LIMITS, LOCK, SOURCES, WHEELS, ArtifactLimits
from kaon.build.locks import Lock, lock_for
from kaon.build.requirements import sha256_of, stated_requirements
from kaon.build.sources import Target, find_target
from kaon.errors import BuildError, InvalidInput, KaonError, TooLarge, from_problem
from kaon.sdk.layout import own_modules, search_path
from kaon.types.artifact import Consent, FileEntry, IgnoreFile, Manifest
from kaon.types.launch import EXIT_CONFIG
from kaon.types.service import ServiceSpec
from kaon.version import __version__

INSPECTION_TIMEOUT_S = 120.0
_ANSWER_BYTES_MAX = 64 * 2**20
_SAID_BYTES_MAX = 64 * 2**10


@dataclass(frozen=True)
class Built:
    """An artifact on disk."""

    path: Path
    digest: str
    manifest: Manifest
    size_bytes: int
    left_out: tuple[LeftOut, ...] = ()
    """Files and folders of the project that are not in it, and that somebody may miss."""


@dataclass(frozen=True)
class Known:
    """What is known of a project, for hints."""

    own: Collection[str] = ()
    """Names of its own modules and packages."""
    ignored: Sequence[IgnoreFile] = ()


def build(
    target: str,
    *,
    folder: Path,
    environments: Path,
    out: Path,
    env: Mapping[str, str] = MappingProxyType({}),
    include: Sequence[str] = (),
    allow: Collection[Consent] = (),
    python: Path | None = None,
    limits: ArtifactLimits = DEFAULT_LIMITS,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Built:
    """Build `target`, 'file.py:Class' relative to `folder`, into the folder `out`; equal sources, equal bytes.

    `env` are the deployment's variables, which the module sees while it is read. `include` are paths or patterns of
    what is packed although a rule leaves it out, `allow` what is refused unless it is wanted. `environments` is where
    environments are kept, shared with the agent of this machine; `python`, when given, is the interpreter that reads
    the class in place of one from there. `on_progress` is told what goes on, in a few words. Raises `BuildError`, and
    `InvalidInput` or `NotFound` when `target` does not name a class.
    """
    found = find_target(target, folder)
    found = replace(found, include=(*found.include, *include))
    on_progress("collecting the sources")
    collected = collect(found, allow_pickles=Consent.PICKLE in allow, limits=limits)
    _check_module(found, collected)
    stated = stated_requirements(found)
    with tempfile.TemporaryDirectory(prefix="kaon-build-") as work:
        on_progress("locking the requirements")
        allow_sdist = Consent.SDIST in allow
        lock = lock_for(found, stated, Path(work), allow_sdist=allow_sdist)
        stage = Path(work) / "src"
        files = _stage(found.root, collected, stage, limits)
        if python is None:
            on_progress("installing the requirements")
            python = Environments(environments).ensure(
                lock.text, wheels=lock.folders, options=lock.options, allow_sdist=allow_sdist
            )
        on_progress("reading the class")
        known = Known(own_modules(search_path(found.root, found.file)), tuple(collected.ignore_files))
        service = inspect(found.entry, stage, python, env, known)
        on_progress("packing")
        manifest = Manifest(
            kaon=__version__,
            python=f"{sys.version_info.major}.{sys.version_info.minor}",
            service=service.model_copy(update={"requirements": stated.names}),
            files=tuple(files),
            lock=lock_hash(lock.text),
            allowed=tuple(sorted(allow)),
            ignored=tuple(collected.ignore_files),
        )
        return replace(_pack(manifest, lock, stage, out, limits), left_out=tuple(collected.left_out))


def _check_module(target: Target, collected: PackedFiles) -> None:
    relative = target.file.relative_to(target.root).as_posix()
    if relative in collected.files:
        return
    reasons = [left.reason for left in collected.left_out if relative == left.path or relative.startswith(left.path)]
    raise BuildError(
        f"{relative} itself is left out: {reasons[0] if reasons else 'it is in a folder of tools'}.",
        hint=f"Take it out of there, or add: --include {relative}",
    )


def inspect(
    entry: str,
    folder: Path,
    python: Path,
    env: Mapping[str, str] = MappingProxyType({}),
    known: Known | None = None,
) -> ServiceSpec:
    """What the class `entry` ('module:Class') in `folder` is, read by `python` in a process of its own.

    Its environment is `env` above what any program needs. Raises `BuildError` with the last lines that it said when it
    cannot be imported, and a hint that goes by what is `known` of the project.
    """
    with tempfile.NamedTemporaryFile(prefix="kaon-class-") as answer, tempfile.TemporaryFile() as said:
        command = [str(python), "-B", "-P", "-s", "-m", "kaon.build.inspection", entry, str(folder), answer.name]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env=clean_environment(os.environ) | dict(env),
            cwd=folder,
            start_new_session=True,
        )
        try:
            code = process.wait(INSPECTION_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise BuildError(
                f"Importing {entry} took more than {INSPECTION_TIMEOUT_S:.0f} s.",
                hint="Load models in the constructor, not while the module is imported.",
                errors=[{"line": line} for line in _last_lines(said)],
            ) from None
        finally:
            with suppress(ProcessLookupError):  # with whatever the module has started
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        read = answer.read(_ANSWER_BYTES_MAX)
        lines = _last_lines(said)
    try:
        members = json.loads(read) if code == 0 else None
    except ValueError:
        members = None
    if not isinstance(members, dict):
        raise _not_imported(entry, code, lines, folder, known or Known())
    if "problem" in members:
        raise _refused(members, folder, known or Known())
    return ServiceSpec.model_validate(members["service"])


def _refused(members: Mapping[str, Any], folder: Path, known: Known) -> KaonError:
    """The error of a class that cannot be served, or of a module that imports what is not there."""
    error = from_problem(500, members["problem"])
    if missing := str(members.get("missing") or ""):
        hint = missed.explained(f"'{missing}'", folder, known.ignored) or missing_module_hint(missing, known.own)
        error = BuildError(error.cause, hint=hint)
    return _as_build_error(error)


def _last_lines(said: BinaryIO) -> list[str]:
    """The last lines of a file, of its last 64 KiB."""
    size = said.seek(0, os.SEEK_END)
    said.seek(max(0, size - _SAID_BYTES_MAX))
    return said.read().decode(errors="replace").strip().splitlines()[-15:]


def _not_imported(entry: str, code: int, lines: list[str], folder: Path, known: Known) -> BuildError:
    """The error for a module whose import ended the process, or raised."""
    if code == EXIT_CONFIG:
        cause = f"{entry} cannot be imported: {lines[-1] if lines else 'it raised an error'}"
    elif code < 0:
        cause = f"{entry} cannot be imported: {signal.Signals(-code).name} ended the process that imported it"
    else:
        cause = f"{entry} cannot be imported: the process that imported it ended, with exit code {code}"
    last = lines[-1] if lines else ""
    hint = missed.explained(last, folder, known.ignored) or import_hint(last, known.own)
    return BuildError(cause, hint=hint, errors=[{"line": line} for line in lines])


def missing_module_hint(name: str, own: Collection[str]) -> str:
    """What to do about a module that is not found; `own` are the names of the project's modules."""
    first = name.partition(".")[0]
    if first in own:
        return f"{first} is the project's own: check the spelling of {name}, and whether there is such a file."
    return f"Name the package that has {name} in @kaon.service(requirements=[...]) or requirements.txt."


def import_hint(last: str, own: Collection[str]) -> str:
    """What to do about an import that failed, from the last line of its traceback; `own` are the project's modules."""
    if missing := re.match(r"ModuleNotFoundError: No module named '([\w.]+)'", last):
        return missing_module_hint(missing.group(1), own)
    if missing := re.match(r"KeyError: '([A-Z_][A-Z0-9_]*)'", last):
        return f"If {missing.group(1)} is a variable: give it by --env, or read it in the constructor if it is secret."
    return "Import the module by itself to see where."


def _as_build_error(error: KaonError) -> KaonError:
    return BuildError(error.cause, hint=error.hint, errors=error.errors)


def _stage(root: Path, collected: PackedFiles, stage: Path, limits: ArtifactLimits) -> list[FileEntry]:
    """Copy the sources and describe the copies."""
    entries, left = [], limits.unpacked_bytes
    for relative, source in collected.files.items():
        copy = stage / relative
        left -= source.stat().st_size
        if left < 0:
            raise BuildError(
                f"The sources below {root} have more than {limits.unpacked_bytes} bytes.",
                hint="Leave out what the service does not need, in .gitignore; fetch large weights at start.",
            )
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy, follow_symlinks=False)
        entries.append(_described(SOURCES + relative, copy, executable=bool(source.stat().st_mode & 0o100)))
    return entries


def _described(path: str, file: Path, *, executable: bool = False) -> FileEntry:
    return FileEntry(path=path, size_bytes=file.stat().st_size, sha256=sha256_of(file), executable=executable)


def _pack(manifest: Manifest, lock: Lock, stage: Path, out: Path, limits: ArtifactLimits) -> Built:
    """Write the archive to `out` under its name, which tells its digest, and read it back as a stranger would."""
    entries = list(manifest.files)
    sources: dict[str, Path | bytes] = {entry.path: stage / entry.path.removeprefix(SOURCES) for entry in entries}
    if lock.text:
        raw = lock.text.encode()
        sources[LOCK] = raw
        entries.append(FileEntry(path=LOCK, size_bytes=len(raw), sha256=lock_hash(lock.text)))
    for wheel in lock.wheels:
        sources[WHEELS + wheel.name] = wheel
        entries.append(_described(WHEELS + wheel.name, wheel))
    manifest = manifest.model_copy(update={"files": tuple(sorted(entries, key=lambda entry: entry.path))})
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=out, prefix=".kaon-", delete=False) as file:
        beside = Path(file.name)
        try:
            digest = archive.pack(manifest, sources, file, limits)  # type: ignore[arg-type]
            file.flush()
            archive.read_manifest(beside, limits, digest=digest)
            path = out / f"{manifest.service.name}-{digest.removeprefix('sha256:')[:12]}.tar.gz"
            beside.chmod(0o644)
            beside.rename(path)
        except (InvalidInput, TooLarge) as error:
            raise _as_build_error(error) from None
        finally:
            beside.unlink(missing_ok=True)
    return Built(path=path, digest=digest, manifest=manifest, size_bytes=path.stat().st_size)
