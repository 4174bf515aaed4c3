"""Builds an artifact from a class and its project: collect, lock, stage, inspect, pack, verify.

The files are first copied to a staging folder, which both inspection and archive use: an edit during the build cannot
make them differ, and a file that was left out is missed at build time already.
"""

from __future__ import annotations

import errno
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

from kaon.build import archive
from kaon.build.collecting import LeftOut, PackedFiles, check, collect
from kaon.build.environments import Environments, lock_hash
from kaon.build.installer import clean_environment
from kaon.build.limits import DEFAULT_LIMITS, LOCK, SOURCES, WHEELS, ArtifactLimits
from kaon.build.locks import Lock, lock_for
from kaon.build.marks import allows_pickle
from kaon.build.requirements import read_requirements, sha256_of
from kaon.build.sources import Target, find_target
from kaon.errors import BuildError, InvalidInput, KaonError, TooLarge, from_problem
from kaon.sdk import left_out
from kaon.sdk.layout import own_modules, search_path
from kaon.types.artifact import PICKLES_MAX, Consent, FileEntry, IgnoreFile, Manifest
from kaon.types.job import JobDeclaration
from kaon.types.launch import EXIT_CONFIG
from kaon.types.service import ServiceSpec
from kaon.version import __version__

INSPECTION_TIMEOUT_S = 120.0
_RESULT_BYTES_MAX = 64 * 2**20
_LINKED_FROM_BYTES = 16 * 2**20
_OUTPUT_BYTES_MAX = 64 * 2**10


@dataclass(frozen=True)
class Built:
    """An artifact on disk."""

    path: Path
    digest: str
    manifest: Manifest
    size_bytes: int
    left_out: tuple[LeftOut, ...] = ()
    """Files and folders of the project that are not packed and are worth reporting."""


@dataclass(frozen=True)
class ProjectFacts:
    """Facts about a project, for hints."""

    own_modules: Collection[str] = ()
    """Names of its own modules and packages."""
    ignore_files: Sequence[IgnoreFile] = ()


def build(
    target: str,
    *,
    folder: Path,
    environments: Path,
    out: Path,
    env: Mapping[str, str] = MappingProxyType({}),
    include: Sequence[str] = (),
    allow: Collection[Consent] = (),
    require: Sequence[str] = (),
    python: Path | None = None,
    limits: ArtifactLimits = DEFAULT_LIMITS,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Built:
    """Build `target`, 'file.py:NAME' relative to `folder`, into the folder `out`; equal sources give equal bytes.

    NAME is a service's class or a job's function.

    `env` are the deployment's variables, set while the module is imported. `include` are paths or patterns of files
    that are packed although a rule excludes them; `allow` permits what is refused by default; `require` are further
    requirements, such as extras and groups of the project. `environments` is the
    folder of environments, shared with the agent of this machine; `python` is used to inspect the class instead of one
    of these. `on_progress` is called with the current activity. Raises `BuildError`, and `InvalidInput` or `NotFound`
    when `target` is no class or job.
    """
    found = find_target(target, folder)
    found = replace(found, include=(*found.include, *include))
    on_progress("collecting the sources")
    allowed = {*allow, *([Consent.PICKLE] if allows_pickle(found) else [])}
    collected = collect(found, limits=limits)
    check(collected, allow_pickles=Consent.PICKLE in allowed)
    _check_module(found, collected)
    requirements = read_requirements(found, require)
    with tempfile.TemporaryDirectory(prefix="kaon-build-") as work:
        on_progress("locking the requirements")
        allow_sdist = Consent.SDIST in allowed
        lock = lock_for(found, requirements, Path(work), allow_sdist=allow_sdist)
        stage = Path(work) / "src"
        files = _stage(found.root, collected, stage, limits)
        if python is None:
            on_progress("installing the requirements")
            python = Environments(environments).ensure(
                lock.text,
                wheels=lock.folders,
                options=lock.options,
                allow_sdist=allow_sdist,
                progress=lambda activity: on_progress(f"the requirements, {activity}"),
            )
        on_progress("reading the class")
        facts = ProjectFacts(own_modules(search_path(found.root, found.file)), tuple(collected.ignore_files))
        service, jobs = inspect(found.entry, stage, python, env, facts)
        on_progress("packing")
        manifest = Manifest(
            kaon=__version__,
            python=f"{sys.version_info.major}.{sys.version_info.minor}",
            service=service.model_copy(update={"requirements": requirements.names}),
            jobs=jobs,
            files=tuple(files),
            lock=lock_hash(lock.text),
            allowed=tuple(sorted(allowed)),
            pickles=tuple(collected.pickles[:PICKLES_MAX]),
            ignored=tuple(collected.ignore_files),
        )
        return replace(_pack(manifest, lock, stage, out, limits), left_out=collected.unexpected)


def _check_module(target: Target, collected: PackedFiles) -> None:
    relative = target.file.relative_to(target.root).as_posix()
    if relative in collected.files:
        return
    reasons = [left.reason for left in collected.left_out if relative == left.path or relative.startswith(left.path)]
    raise BuildError(
        f"{relative} itself is left out: {reasons[0] if reasons else 'it is in a folder of tools'}.",
        hint=f"Move the file, or add: --include {relative}",
    )


def inspect(
    entry: str,
    folder: Path,
    python: Path,
    env: Mapping[str, str] = MappingProxyType({}),
    facts: ProjectFacts | None = None,
) -> tuple[ServiceSpec, tuple[JobDeclaration, ...]]:
    """The service of `entry` ('module:NAME') in `folder` and all jobs of its module, read by `python` in a process.

    The process gets `env` and the variables that any program needs. Raises `BuildError` with its last lines of output
    when the class cannot be imported, and a hint based on `facts`.
    """
    facts = facts or ProjectFacts()
    with tempfile.NamedTemporaryFile(prefix="kaon-class-") as result, tempfile.TemporaryFile() as output:
        command = [str(python), "-B", "-P", "-s", "-m", "kaon.runtime.inspection", entry, str(folder), result.name]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
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
                errors=[{"line": line} for line in _last_lines(output)],
            ) from None
        finally:
            with suppress(ProcessLookupError):  # with all processes that the module started
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        read = result.read(_RESULT_BYTES_MAX)
        lines = _last_lines(output)
    try:
        members = json.loads(read) if code == 0 else None
    except ValueError:
        members = None
    if not isinstance(members, dict):
        raise _not_imported(entry, code, lines, folder, facts)
    if "problem" in members:
        raise _refused(members, folder, facts)
    jobs = tuple(JobDeclaration.model_validate(job) for job in members.get("jobs", ()))
    return ServiceSpec.model_validate(members["service"]), jobs


def _refused(members: Mapping[str, Any], folder: Path, facts: ProjectFacts) -> KaonError:
    """The error of a class that is not a valid service, or of a module with an import that is not found."""
    error = from_problem(500, members["problem"])
    if missing := str(members.get("missing") or ""):
        explanation = left_out.explain_text(f"'{missing}'", folder, facts.ignore_files)
        error = BuildError(error.cause, hint=explanation or missing_module_hint(missing, facts.own_modules))
    return _as_build_error(error)


def _last_lines(output: BinaryIO) -> list[str]:
    """The last lines of a file, at most 64 KiB."""
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - _OUTPUT_BYTES_MAX))
    return output.read().decode(errors="replace").strip().splitlines()[-15:]


def _not_imported(entry: str, code: int, lines: list[str], folder: Path, facts: ProjectFacts) -> BuildError:
    """The error for a module whose import raised or ended the process."""
    if code == EXIT_CONFIG:
        cause = f"{entry} cannot be imported: {lines[-1] if lines else 'it raised an error'}"
    elif code < 0:
        cause = f"{entry} cannot be imported: {signal.Signals(-code).name} ended the importing process"
    else:
        cause = f"{entry} cannot be imported: the importing process ended with exit code {code}"
    last = lines[-1] if lines else ""
    hint = left_out.explain_text(last, folder, facts.ignore_files) or import_hint(last, facts.own_modules)
    return BuildError(cause, hint=hint, errors=[{"line": line} for line in lines])


def missing_module_hint(name: str, own: Collection[str]) -> str:
    """A hint for a module that is not found; `own` are the names of the project's modules."""
    first = name.partition(".")[0]
    if first in own:
        return f"{first} is a module of the project: check the spelling of {name} and whether its file exists."
    return f"Add the package that provides {name} to @kaon.service(requirements=[...]) or requirements.txt."


def import_hint(last: str, own: Collection[str]) -> str:
    """A hint for a failed import, from the last line of its traceback; `own` are the project's modules."""
    if missing := re.match(r"ModuleNotFoundError: No module named '([\w.]+)'", last):
        return missing_module_hint(missing.group(1), own)
    if missing := re.match(r"KeyError: '([A-Z_][A-Z0-9_]*)'", last):
        return f"If {missing.group(1)} is a variable: set it with --env, or read a secret in the constructor."
    return "Import the module in a Python shell to see where."


def _as_build_error(error: KaonError) -> KaonError:
    return BuildError(error.cause, hint=error.hint, errors=error.errors)


def _stage(root: Path, collected: PackedFiles, stage: Path, limits: ArtifactLimits) -> list[FileEntry]:
    """Copy the sources and return the entries of the copies. Large files are linked: `pack` compares their hashes."""
    entries, left = [], limits.unpacked_bytes
    for relative, source in collected.files.items():
        copy, size = stage / relative, source.stat().st_size
        left -= size
        if left < 0:
            raise BuildError(
                f"The sources below {root} have more than {limits.unpacked_bytes:,} bytes.",
                hint="Leave out unneeded files in .gitignore, or raise KAON_LARGEST_ARTIFACT_BYTES.",
            )
        copy.parent.mkdir(parents=True, exist_ok=True)
        if size < _LINKED_FROM_BYTES:
            shutil.copyfile(source, copy, follow_symlinks=False)
        else:
            copy.symlink_to(source)
        entries.append(_described(SOURCES + relative, copy, executable=bool(source.stat().st_mode & 0o100)))
    return entries


def _described(path: str, file: Path, *, executable: bool = False) -> FileEntry:
    return FileEntry(path=path, size_bytes=file.stat().st_size, sha256=sha256_of(file), executable=executable)


def _pack(manifest: Manifest, lock: Lock, stage: Path, out: Path, limits: ArtifactLimits) -> Built:
    """Write the archive to `out`, verify it, and name it by its digest."""
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
        temporary = Path(file.name)
        try:
            digest = archive.pack(manifest, sources, file, limits)  # type: ignore[arg-type]
            file.flush()
            archive.read_manifest(temporary, limits, digest=digest)
            path = out / f"{manifest.service.name}-{digest.removeprefix('sha256:')[:12]}.tar.gz"
            temporary.chmod(0o644)
            temporary.rename(path)
        except (InvalidInput, TooLarge) as error:
            raise _as_build_error(error) from None
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            size = sum(entry.size_bytes for entry in manifest.files)
            raise BuildError(
                f"The disk of {out} is full; the files of the artifact have {size:,} bytes.",
                hint="Make room there; for temporary files, TMPDIR is another place.",
            ) from None
        finally:
            temporary.unlink(missing_ok=True)
    return Built(path=path, digest=digest, manifest=manifest, size_bytes=path.stat().st_size)
