"""Locks: exact versions with hashes, chosen so that service and platform never disagree.

A lock is a requirements file of the narrowest kind, `name==version ; marker --hash=sha256:...`, and nothing else:
no option, no address, no path, so that neither the file that a stranger uploads nor one that was made behind a private
index can lead an installer anywhere. The first line of a lock that Kaon made is the hash of the requirements that
it answers; while they stay the same, the lock stays.

Wheels that the requirements name by their place are locked by name and hash as all others, and go with the lock.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import httpx2

from kaon.build.installer import run_uv
from kaon.build.limits import DEFAULT_LIMITS, LOCK
from kaon.build.requirements import NAME, Requirements, Wheel, name_of, normal, sha256_of, text_of
from kaon.build.sources import Target
from kaon.errors import BuildError, InvalidInput

_PINNED = re.compile(
    rf"({NAME})(?:\[[A-Za-z0-9._, -]*\])?==([A-Za-z0-9.!+_-]+)"
    r"(?:\s*;(?:(?!\s-)[^;#@:/])*)?((?:\s+--hash=sha256:[0-9a-f]{64})+)"
)
_BY_PLACE = re.compile(rf"^({NAME})((?:\[[^\]]*\])?) @ file:\S+", re.MULTILINE)
_HEADER = "# kaon: locks the requirements sha256:"
_DOWNLOAD_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Lock:
    """A lock, and what it takes to install it here."""

    text: str = ""
    """Empty: nothing is needed."""
    wheels: tuple[Path, ...] = ()
    """Files that it names by hash and that are in no index; they travel with the artifact."""
    options: tuple[str, ...] = ()
    """For uv, on this machine: where the project says that its packages are."""

    @property
    def folders(self) -> list[Path]:
        """Where the wheels are."""
        return sorted({wheel.parent for wheel in self.wheels})


def check_lock(text: str) -> dict[str, set[str]]:
    """The versions that a lock names by package. Raises `InvalidInput` when it is more than pinned names and hashes."""
    versions: dict[str, set[str]] = {}
    for line in text.replace("\\\n", " ").splitlines():
        plain = line.strip()
        if not plain or plain.startswith("#"):
            continue
        match = _PINNED.fullmatch(plain)
        if match is None:
            raise InvalidInput(
                f"{plain[:80]!r} in {LOCK} is not a pinned package with its hashes.",
                hint=f"Delete {LOCK} and build again: Kaon makes another.",
            )
        versions.setdefault(normal(match.group(1)), set()).add(match.group(2))
    return versions


def platform_versions() -> dict[str, str]:
    """Kaon's own requirements, and theirs, in the versions that are installed here."""
    versions: dict[str, str] = {}
    waiting = ["kaon"]
    while waiting:
        for text in metadata.requires(waiting.pop()) or []:
            name = name_of(text)
            if name in versions or re.search(r"\bextra\s*==", text):
                continue
            try:
                versions[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue  # for another system or Python
            waiting.append(name)
    return versions


def lock_for(target: Target, requirements: Requirements, work: Path, *, allow_sdist: bool = False) -> Lock:
    """The lock that answers what is requirements; wheels that it needs are put below `work`.

    The project's own `requirements.lock` when it still does, else a new one, which is put there for the next
    build. With `allow_sdist` packages may be built from their sources. Raises `BuildError`.
    """
    path = target.project / LOCK
    present = text_of(path) if path.is_file() else ""
    ours = platform_versions()
    if requirements.empty and not (present and not present.startswith(_HEADER)):
        return Lock()
    wheels = _gathered(requirements, work)
    if present and _answers(present, requirements, wheels, ours):
        return _lock(present, requirements, wheels)
    if present and not present.startswith(_HEADER):
        raise BuildError(
            f"{LOCK} does not answer what the service requires of it and of the platform's own versions."
            + _both_sides(_differences(check_lock(present), ours)),
            hint=f"Lock again with your own tool, or delete {LOCK} and let Kaon make one.",
        )
    text = _header(requirements, wheels) + resolve(requirements, wheels, folder=target.project, allow_sdist=allow_sdist)
    try:
        path.write_text(text)
    except OSError:
        pass  # a read-only project builds all the same, with the newest versions each time
    return _lock(text, requirements, wheels)


def _lock(text: str, requirements: Requirements, wheels: Mapping[Path, Wheel]) -> Lock:
    """With those of the wheels at hand that the lock names."""
    at_hand = [*wheels, *(file for place in requirements.wheel_folders for file in sorted(place.glob("*.whl")))]
    named = {sha256: file for file in reversed(at_hand) if (sha256 := sha256_of(file)) in text}
    return Lock(text, tuple(sorted(named.values(), key=lambda file: file.name)), tuple(requirements.options))


def _answers(lock: str, requirements: Requirements, wheels: Mapping[Path, Wheel], ours: Mapping[str, str]) -> bool:
    """Whether a lock was made for what is requirements, or by others for at least that, and suits this platform."""
    versions = check_lock(lock)
    if _differences(versions, ours):
        return False
    if lock.startswith(_HEADER):
        return lock.startswith(_header(requirements, wheels))
    return all(name_of(text) in versions for text in requirements.names)


def _differences(versions: Mapping[str, set[str]], ours: Mapping[str, str]) -> dict[str, str]:
    """What a lock and the platform have in different versions, with the lock's."""
    differing = {name: found for name, found in versions.items() if name in ours and found != {ours[name]}}
    return {name: " and ".join(sorted(found)) for name, found in differing.items()}


def _header(requirements: Requirements, wheels: Mapping[Path, Wheel]) -> str:
    lines = [
        *requirements.names,
        *(f"{file.name} {sha256_of(file)}" for file in wheels),
        *sorted(requirements.constraints),
    ]
    return f"{_HEADER}{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()}\n"


def resolve(
    requirements: Requirements, wheels: Mapping[Path, Wheel], *, folder: Path | None = None, allow_sdist: bool = False
) -> str:
    """Choose versions with uv, for every system, under the platform's own: the lines of a lock.

    uv runs in `folder`, where it finds the project's settings for it. Raises `BuildError`.
    """
    ours = platform_versions()
    try:
        output = _compiled(requirements, wheels, ours, folder, allow_sdist)
    except BuildError as error:
        conflict = _conflict(error, requirements, wheels, ours, folder, allow_sdist)
        raise conflict or error from None
    by_name = {name_of(wheel.requirement): wheel.requirement.partition("==")[2] for wheel in wheels.values()}
    output = _BY_PLACE.sub(lambda match: f"{match.group(1)}{match.group(2)}=={by_name[normal(match.group(1))]}", output)
    text = "".join(f"{line}\n" for line in output.splitlines() if not line.startswith("--"))
    check_lock(text)
    return text


def _compiled(
    requirements: Requirements,
    wheels: Mapping[Path, Wheel],
    ours: Mapping[str, str],
    folder: Path | None,
    allow_sdist: bool,
) -> str:
    """What uv makes of it under the versions of `ours`."""
    with tempfile.TemporaryDirectory(prefix="kaon-lock-") as work:
        wanted, bounds = Path(work) / "wanted.in", Path(work) / "bounds.txt"
        placed = [
            f"{wheel.requirement.partition('==')[0]} @ {file.as_uri()}" + (f" ; {wheel.marker}" if wheel.marker else "")
            for file, wheel in wheels.items()
        ]
        wanted.write_text("".join(f"{line}\n" for line in [*sorted(requirements.packages), *placed]))
        pinned = [f"{name}=={version}" for name, version in sorted(ours.items())]
        bounds.write_text("".join(f"{line}\n" for line in [*pinned, *sorted(requirements.constraints)]))
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        arguments = ["pip", "compile", "--universal", "--generate-hashes", "--no-header", "--no-annotate", "--quiet"]
        arguments += ["--python-version", version, "--constraints", str(bounds), str(wanted), *requirements.options]
        arguments += [] if allow_sdist else ["--no-build"]
        return run_uv(arguments, "The requirements cannot be locked.", folder=folder)


def _conflict(
    error: BuildError,
    requirements: Requirements,
    wheels: Mapping[Path, Wheel],
    ours: Mapping[str, str],
    folder: Path | None,
    allow_sdist: bool,
) -> BuildError | None:
    """The error that says what the service and Kaon disagree on; None when that is not what is wrong."""
    try:
        free = _compiled(requirements, wheels, {}, folder, allow_sdist)
    except BuildError:
        return None
    found: dict[str, set[str]] = {}
    for name, version in re.findall(rf"^({NAME})(?:\[[^\]]*\])?==(\S+)", free, re.MULTILINE):
        found.setdefault(normal(name), set()).add(version)
    differences = _differences(found, ours)
    told = {name: version for name, version in differences.items() if re.search(rf"\b{name}\b", error.cause)}
    names = ", ".join(told or differences)
    return BuildError(
        "The requirements of the service and of Kaon contradict each other."
        f"{_both_sides(told or differences, requirements)} "
        "A service runs in one process with Kaon, which can have one version of a package.",
        hint=f"Let the service take the version of Kaon, by a wider requirement on {names} or on what needs it; "
        "or run what needs the other version in a process of its own that the service starts.",
        errors=[{"line": error.cause}],
    )


def _both_sides(differences: Mapping[str, str], requirements: Requirements | None = None) -> str:
    """Both sides of each difference, in sentences."""
    wanted = {name_of(text): text for text in requirements.names} if requirements is not None else {}
    asked = {name_of(text): text.split(";")[0].strip() for text in metadata.requires("kaon") or []}
    sentences = []
    for name, version in sorted(differences.items()):
        theirs = f"The service needs {name} {version}" + (f" (`{wanted[name]}`)" if name in wanted else "")
        own = f"Kaon runs with {name} {metadata.version(name)}" + (f" (`{asked[name]}`)" if name in asked else "")
        sentences.append(f" {theirs}, and {own}.")
    return "".join(sentences)


def _gathered(requirements: Requirements, work: Path) -> dict[Path, Wheel]:
    """The wheels that are named by their places, below `work`. Raises `BuildError` for one of another hash."""
    folder = work / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[Path, Wheel] = {}
    for wheel in [*requirements.wheels, *(_made_of(place, work / "made") for place in requirements.folders)]:
        file = folder / wheel.file_name
        if "://" in wheel.location:
            _download(wheel, file)
        else:
            shutil.copyfile(wheel.location, file)
        if wheel.sha256 and sha256_of(file) != wheel.sha256:
            raise BuildError(f"{wheel.location} has another hash than the requirements say.")
        found[file] = wheel
    return found


def _made_of(project: Path, out: Path) -> Wheel:
    """A wheel of the project in a folder that the requirements name."""
    here = out / hashlib.sha256(str(project).encode()).hexdigest()[:12]
    run_uv(
        ["build", "--wheel", "--quiet", "--out-dir", str(here), str(project)],
        f"No wheel can be made of {project}, which the requirements name.",
        "Check its pyproject.toml: `uv build --wheel` in that folder shows more.",
    )
    return Wheel(str(next(here.glob("*.whl"))))


def _download(wheel: Wheel, file: Path) -> None:
    limit = DEFAULT_LIMITS.file_bytes
    try:
        with (
            httpx2.stream("GET", wheel.location, follow_redirects=True, timeout=_DOWNLOAD_TIMEOUT_S) as answer,
            file.open("wb") as out,
        ):
            answer.raise_for_status()
            for chunk in answer.iter_bytes():
                out.write(chunk)
                if out.tell() > limit:
                    raise BuildError(f"{wheel.location} is larger than {limit} bytes.")
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise BuildError(f"{wheel.location} cannot be downloaded: {error}", hint="Check the address.") from None
