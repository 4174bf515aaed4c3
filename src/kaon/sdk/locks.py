"""Requirements and their lock: exact versions with hashes, chosen so that service and platform never disagree.

What a service needs is what its class says (`@kaon.service(requirements=[...])`, read from the source text: the
class cannot be imported before they are there) and what the project says (`requirements.txt`, else
`[project] dependencies` of pyproject.toml). `kaon` itself is not one: the platform brings it.

A lock is a requirements file of the narrowest kind, `name==version ; marker --hash=sha256:...`, and nothing else:
no option, no URL, no path, so that neither the file that a stranger uploads nor one that was made behind a private
index can lead an installer anywhere. The first line of a lock that Kaon made is the hash of the requirements that
it answers; while they stay the same, the lock stays.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from kaon.errors import BuildError, InvalidInput
from kaon.sdk.limits import LOCK
from kaon.sdk.sources import Target, read_pyproject, table_of

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_REQUIREMENT = re.compile(rf"({_NAME})\s*(\[[A-Za-z0-9._,\s-]*\])?\s*[^@:/]*")
_PINNED = re.compile(
    rf"({_NAME})(?:\[[A-Za-z0-9._, -]*\])?==([A-Za-z0-9.!+_-]+)"
    r"(?:\s*;(?:(?!\s-)[^;#@:/])*)?((?:\s+--hash=sha256:[0-9a-f]{64})+)"
)
_RESOLVE_HINT = (
    "Check the names and versions. What Kaon itself uses, a service uses in the same version: `uv pip list`."
)
_HEADER = "# kaon: locks the requirements sha256:"


def stated_requirements(target: Target) -> tuple[str, ...]:
    """What the class and its project ask for, sorted, without the platform itself.

    Raises `BuildError` when one is an option, a URL or a path, or when the class's cannot be read.
    """
    stated = _of_class(target) + _of_project(target.project)
    for text in stated:
        if not _REQUIREMENT.fullmatch(text.split(";")[0].strip()):
            raise BuildError(
                f"{text!r} is not a requirement that can be locked.",
                hint="Name packages and versions only; options and index addresses belong in uv's own settings.",
            )
    return tuple(sorted({text for text in stated if _name(text) != "kaon"}))


def _name(requirement: str) -> str:
    """The package's name in its normal form."""
    match = re.match(_NAME, requirement)
    return re.sub(r"[-_.]+", "-", match.group()).lower() if match else ""


def _of_class(target: Target) -> list[str]:
    try:
        tree = ast.parse(target.file.read_bytes(), filename=target.file.name)
    except (SyntaxError, ValueError) as error:
        raise BuildError(f"{target.file.name} is not valid Python: {error}") from None
    found = next((n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == target.cls), None)
    if found is None:
        raise BuildError(f"{target.file.name} has no class {target.cls!r} at its top level.")
    calls = (mark for mark in found.decorator_list if isinstance(mark, ast.Call))
    values = [word.value for call in calls for word in call.keywords if word.arg == "requirements"]
    try:
        return [str(text).strip() for value in values for text in ast.literal_eval(value)]
    except (ValueError, TypeError):
        raise BuildError(
            f"The requirements of {target.cls} are computed.",
            hint="Write them as a plain list of strings: they are read before the class can be imported.",
        ) from None


def _of_project(project: Path) -> list[str]:
    file = project / "requirements.txt"
    if file.is_file():
        lines = re.sub(r"\\\n", " ", _text(file)).splitlines()
        plain = (re.sub(r"(^|\s)#.*", "", line).strip() for line in lines)
        return [re.sub(r"\s--hash=\S+", "", line).strip() for line in plain if line]
    stated = table_of(read_pyproject(project), "project", project).get("dependencies", [])
    if not isinstance(stated, list):
        raise BuildError(f"The dependencies in {project / 'pyproject.toml'} are not a list of texts.")
    return [str(text).strip() for text in stated]


def _text(file: Path) -> str:
    """A file's text. Raises `BuildError` when it is not UTF-8."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BuildError(f"{file} is not UTF-8: {error.reason} at byte {error.start}.", hint="Save it anew.") from None


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
        versions.setdefault(_name(match.group(1)), set()).add(match.group(2))
    return versions


def platform_versions() -> dict[str, str]:
    """Kaon's own requirements, and theirs, in the versions that are installed here."""
    versions: dict[str, str] = {}
    waiting = ["kaon"]
    while waiting:
        for text in metadata.requires(waiting.pop()) or []:
            name = _name(text)
            if name in versions or re.search(r"\bextra\s*==", text):
                continue
            try:
                versions[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue  # for another system or Python
            waiting.append(name)
    return versions


def lock_for(target: Target, requirements: tuple[str, ...]) -> str:
    """The text of the lock that answers `requirements`; empty when there are none.

    The project's own `requirements.lock` when it still does, else a new one, which is put there for the next
    build. Raises `BuildError`.
    """
    path = target.project / LOCK
    present = _text(path) if path.is_file() else ""
    if present and _answers(present, requirements):
        return present
    if present and not present.startswith(_HEADER):
        raise BuildError(
            f"{LOCK} does not answer what the service requires of it and of the platform's own versions.",
            hint=f"Lock again with your own tool, or delete {LOCK} and let Kaon make one.",
        )
    if not requirements:
        return ""
    text = resolve(requirements)
    try:
        path.write_text(text)
    except OSError:
        pass  # a read-only project builds all the same, with the newest versions each time
    return text


def _answers(lock: str, requirements: tuple[str, ...]) -> bool:
    """Whether a lock was made for these requirements, or by others for at least them, and suits this platform."""
    versions = check_lock(lock)
    ours = platform_versions()
    if any(name in ours and found != {ours[name]} for name, found in versions.items()):
        return False
    if lock.startswith(_HEADER):
        return lock.startswith(_header(requirements))
    return all(_name(text) in versions for text in requirements)


def _header(requirements: tuple[str, ...]) -> str:
    return f"{_HEADER}{hashlib.sha256(chr(10).join(requirements).encode()).hexdigest()}\n"


def resolve(requirements: tuple[str, ...]) -> str:
    """Choose versions with uv, for every system, under the platform's own. Raises `BuildError`."""
    with tempfile.TemporaryDirectory(prefix="kaon-lock-") as folder:
        wanted, ours = Path(folder) / "wanted.in", Path(folder) / "platform.txt"
        wanted.write_text("\n".join(requirements) + "\n")
        ours.write_text("".join(f"{name}=={version}\n" for name, version in sorted(platform_versions().items())))
        arguments = ["pip", "compile", "--universal", "--generate-hashes", "--no-header", "--no-annotate", "--quiet"]
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        arguments += ["--python-version", version, "--constraints", str(ours), str(wanted)]
        output = run_uv(arguments, "The requirements cannot be locked.", _RESOLVE_HINT)
    lines = [line for line in output.splitlines() if not line.startswith(("--index-url", "--extra-index-url"))]
    text = _header(requirements) + "\n".join(lines) + "\n"
    check_lock(text)
    return text


def run_uv(arguments: list[str], failure: str, hint: str = "Check the names and versions.") -> str:
    """Run uv and return what it printed; from the network first, from its cache when that fails.

    Raises `BuildError` with `failure` and uv's last lines.
    """
    import uv

    command = [uv.find_uv_bin(), *arguments, "--no-progress", "--color", "never"]
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    first = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if first.returncode == 0:
        return first.stdout
    again = subprocess.run([*command, "--offline"], capture_output=True, text=True, env=environment, check=False)
    if again.returncode == 0:
        return again.stdout
    lines = [line.strip() for line in first.stderr.splitlines() if line.strip()]
    raise BuildError(f"{failure} uv says: {' '.join(lines[-12:])[:1500]}", hint=hint)
