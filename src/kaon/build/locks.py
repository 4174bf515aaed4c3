"""Locks: exact versions with hashes, of what a service requires together with the runtime that serves it.

A lock is a requirements file with lines `name==version ; marker --hash=sha256:...` only: without options, URLs and
paths, neither an uploaded lock nor one that was made with a private index can lead an installer anywhere. The first
line of a lock that Kaon made has the hash of the requirements that it locks; while they stay the same, the lock stays.
When they change, uv keeps all locked versions that still fit. In a new lock it prefers the runtime's requirements in
the versions of the platform: these are tested and installed here already.

Wheels that are required by path or URL are locked by name and hash as all others, and are packed with the lock.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx2

from kaon.build import runtime_wheel
from kaon.build.installer import run_uv
from kaon.build.limits import DEFAULT_LIMITS, LOCK
from kaon.build.requirements import NAME, Requirements, Wheel, name_of, normal, sha256_of, text_of
from kaon.build.sources import Target
from kaon.errors import BuildError, InvalidInput

_PINNED = re.compile(
    rf"({NAME})(?:\[[A-Za-z0-9._, -]*\])?==([A-Za-z0-9.!+_-]+)"
    r"(?:\s*;(?:(?!\s-)[^;#@:/])*)?((?:\s+--hash=sha256:[0-9a-f]{64})+)"
)
_BY_LOCATION = re.compile(rf"^({NAME})((?:\[[^\]]*\])?) @ file:\S+", re.MULTILINE)
_HEADER = "# kaon: locks the requirements sha256:"
_DOWNLOAD_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Lock:
    """A lock, and what its installation on this machine needs."""

    text: str = ""
    """Empty without requirements."""
    wheels: tuple[Path, ...] = ()
    """Wheels that it names by hash and that are in no index; they are packed with it."""
    options: tuple[str, ...] = ()
    """Options of uv for the project's package indexes."""

    @property
    def folders(self) -> list[Path]:
        """The folders of the wheels."""
        return sorted({wheel.parent for wheel in self.wheels})


@dataclass(frozen=True)
class Pin:
    """A line of a lock."""

    name: str
    """Normalized."""
    version: str
    line: str


def pins(text: str) -> Iterator[Pin]:
    """The lines of a lock. Raises `InvalidInput` when it has more than pinned names and hashes."""
    for line in text.replace("\\\n", " ").splitlines():
        plain = line.strip()
        if not plain or plain.startswith("#"):
            continue
        match = _PINNED.fullmatch(plain)
        if match is None:
            raise InvalidInput(
                f"{plain[:80]!r} in {LOCK} is not a pinned package with its hashes.",
                hint=f"Delete {LOCK} and build again: Kaon makes a new one.",
            )
        yield Pin(normal(match.group(1)), match.group(2), plain)


def check_lock(text: str) -> dict[str, set[str]]:
    """The versions in a lock by package. Raises as `pins`."""
    versions: dict[str, set[str]] = {}
    for pin in pins(text):
        versions.setdefault(pin.name, set()).add(pin.version)
    return versions


def lock_for(target: Target, requirements: Requirements, work: Path, *, allow_sdist: bool = False) -> Lock:
    """The lock for `requirements`; wheels that it needs are written below `work`.

    The project's `requirements.lock` when it is up to date, else a new one, which is written there. With `allow_sdist`
    packages may be built from their sources. Raises `BuildError`.
    """
    path = target.project / LOCK
    present = text_of(path) if path.is_file() else ""
    is_ours = present.startswith(_HEADER)
    if requirements.empty and (is_ours or not present):
        return Lock()
    wheels = _wheels(requirements, work)
    header = _header(requirements, wheels)
    locked = check_lock(present)
    if is_ours and present.startswith(header):
        return _lock(present, requirements, wheels)
    if present and not is_ours:
        if missing := [text for text in requirements.names if name_of(text) not in locked]:
            raise BuildError(
                f"{LOCK} does not contain {', '.join(missing)}, which the service requires.",
                hint=f"Lock again with your own tool, or delete {LOCK}: Kaon makes a new one.",
            )
        return _lock(present, requirements, wheels)
    text = header + resolve(requirements, wheels, previous=present, folder=target.project, allow_sdist=allow_sdist)
    try:
        path.write_text(text)
    except OSError:
        pass  # in a read-only project each build locks anew
    return _lock(text, requirements, wheels)


def _lock(text: str, requirements: Requirements, wheels: Mapping[Path, Wheel]) -> Lock:
    """With those of the available wheels whose hashes are in the lock."""
    available = [*wheels, *(file for folder in requirements.wheel_folders for file in sorted(folder.glob("*.whl")))]
    named = {sha256: file for file in reversed(available) if (sha256 := sha256_of(file)) in text}
    return Lock(text, tuple(sorted(named.values(), key=lambda file: file.name)), tuple(requirements.options))


def _header(requirements: Requirements, wheels: Mapping[Path, Wheel]) -> str:
    lines = [
        *requirements.names,
        *(f"{file.name} {sha256_of(file)}" for file in wheels),
        *sorted(requirements.constraints),
        *runtime_wheel.REQUIRES,
    ]
    return f"{_HEADER}{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()}\n"


def resolve(
    requirements: Requirements,
    wheels: Mapping[Path, Wheel],
    *,
    previous: str = "",
    folder: Path | None = None,
    allow_sdist: bool = False,
) -> str:
    """Choose versions with uv for every system, those of the lock `previous` where they fit: the lines of a lock.

    uv runs in `folder`, where it finds the project's settings for it. Raises `BuildError`.
    """

    def compiled(runtime: Sequence[str]) -> str:
        preferred = runtime_wheel.installed_requirements() if runtime else {}
        return _compiled(requirements, wheels, runtime, preferred, previous, folder, allow_sdist)

    try:
        output = compiled(runtime_wheel.REQUIRES)
    except BuildError as error:
        try:
            without_runtime = compiled(())
        except BuildError:
            raise error from None
        raise _conflict(error, without_runtime, requirements) from None
    by_name = {name_of(wheel.requirement): wheel.requirement.partition("==")[2] for wheel in wheels.values()}
    output = _BY_LOCATION.sub(
        lambda match: f"{match.group(1)}{match.group(2)}=={by_name[normal(match.group(1))]}", output
    )
    text = "".join(f"{line}\n" for line in output.splitlines() if not line.startswith("--"))
    check_lock(text)
    return text


def _compiled(
    requirements: Requirements,
    wheels: Mapping[Path, Wheel],
    runtime: Sequence[str],
    preferred: Mapping[str, str],
    previous: str,
    folder: Path | None,
    allow_sdist: bool,
) -> str:
    """The output of uv for the service's requirements and those of the `runtime`."""
    with tempfile.TemporaryDirectory(prefix="kaon-lock-") as work:
        required, constraints, output = (Path(work) / name for name in ("required.in", "constraints.txt", "lock.txt"))
        located = [
            f"{wheel.requirement.partition('==')[0]} @ {file.as_uri()}" + (f" ; {wheel.marker}" if wheel.marker else "")
            for file, wheel in wheels.items()
        ]
        required.write_text("".join(f"{line}\n" for line in [*sorted(requirements.packages), *located, *runtime]))
        constraints.write_text("".join(f"{line}\n" for line in sorted(requirements.constraints)))
        locked = check_lock(previous)
        preferences = [f"{name}=={version}" for name, version in preferred.items() if name not in locked]
        output.write_text("".join(f"{line}\n" for line in [*preferences, previous]))
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        arguments = ["pip", "compile", "--universal", "--generate-hashes", "--no-header", "--no-annotate", "--quiet"]
        arguments += ["--python-version", version, "--constraints", str(constraints), "--output-file", str(output)]
        arguments += [str(required), *requirements.options, *([] if allow_sdist else ["--no-build"])]
        run_uv(arguments, "The requirements cannot be locked.", folder=folder)
        return output.read_text()


def _conflict(error: BuildError, without_runtime: str, requirements: Requirements) -> BuildError:
    """The error for requirements that can be locked `without_runtime`, but not with it: who requires what."""
    locked: dict[str, set[str]] = {}
    for name, version in re.findall(rf"^({NAME})(?:\[[^\]]*\])?==(\S+)", without_runtime, re.MULTILINE):
        locked.setdefault(normal(name), set()).add(version)
    shared = {name_of(text): text for text in runtime_wheel.REQUIRES if name_of(text) in locked}
    named = {name: text for name, text in shared.items() if re.search(rf"\b{name}\b", error.cause)}
    by_service = {name_of(text): text for text in requirements.names}
    sides = []
    for name, text in sorted((named or shared).items()):
        required = f"`{by_service[name]}`" if name in by_service else f"{name} {' and '.join(sorted(locked[name]))}"
        sides.append(f"The service requires {required}, and kaon-runtime requires `{text}`.")
    names = ", ".join(sorted(named or shared))
    return BuildError(
        f"The requirements of the service do not fit those of Kaon's runtime, in which it runs. {' '.join(sides)}",
        hint=f"Allow another version of {names} or of the packages that require it. Or run what needs that version in "
        "a process of its own that the service starts.",
        errors=[{"line": error.cause}],
    )


def _wheels(requirements: Requirements, work: Path) -> dict[Path, Wheel]:
    """The wheels that are required by path, URL or folder, below `work`. Raises `BuildError` for a wrong hash."""
    folder = work / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[Path, Wheel] = {}
    for wheel in [*requirements.wheels, *(_built(project, work / "built") for project in requirements.folders)]:
        file = folder / wheel.file_name
        if "://" in wheel.location:
            _download(wheel, file)
        else:
            shutil.copyfile(wheel.location, file)
        if wheel.sha256 and sha256_of(file) != wheel.sha256:
            raise BuildError(f"{wheel.location} does not have the hash that is required.")
        found[file] = wheel
    return found


def _built(project: Path, out: Path) -> Wheel:
    """A wheel of the project in a folder."""
    folder = out / hashlib.sha256(str(project).encode()).hexdigest()[:12]
    run_uv(
        ["build", "--wheel", "--quiet", "--out-dir", str(folder), str(project)],
        f"No wheel can be built of {project}, which is required.",
        "Check its pyproject.toml: `uv build --wheel` in that folder shows more.",
    )
    return Wheel(str(next(folder.glob("*.whl"))))


def _download(wheel: Wheel, file: Path) -> None:
    limit = DEFAULT_LIMITS.file_bytes
    try:
        with (
            httpx2.stream("GET", wheel.location, follow_redirects=True, timeout=_DOWNLOAD_TIMEOUT_S) as response,
            file.open("wb") as out,
        ):
            response.raise_for_status()
            for chunk in response.iter_bytes():
                out.write(chunk)
                if out.tell() > limit:
                    raise BuildError(f"{wheel.location} is larger than {limit} bytes.")
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise BuildError(f"{wheel.location} cannot be downloaded: {error}", hint="Check the URL.") from None
