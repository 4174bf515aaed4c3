"""Progress of an installation, from the lines that uv writes. Pure."""

from __future__ import annotations

import re

_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)
_LINE = re.compile(
    r"\s*(?P<what>Downloading|Downloaded|Building|Built|Resolved|Prepared|Installed)"
    r"\s(?P<name>\S+)(?: \((?P<size>\S+)\))?"
)


def is_progress(line: str) -> bool:
    """Whether a line of uv only reports progress."""
    return _LINE.match(line) is not None or line.startswith("Using Python ")


class InstallProgress:
    """Progress of installing a lock."""

    def __init__(self, lock_text: str) -> None:
        self._versions = {_normal(name): version for name, version in _PIN.findall(lock_text)}
        self._running: dict[str, str] = {}
        self._started = self._done = 0

    def after(self, line: str) -> str | None:
        """The current activity when this line changes it, else None."""
        found = _LINE.match(line)
        if found is None:
            return None
        name = _normal(found["name"].partition("==")[0].partition(" @")[0])
        match found["what"]:
            case "Downloading" | "Building":
                self._started += 1
                size = f", {found['size']}" if found["size"] else ""
                self._running[name] = f"{name} {self._versions.get(name, '')}".rstrip() + size
            case "Downloaded" | "Built":
                self._done += 1
                self._running.pop(name, None)
            case "Resolved":
                return f"fetching {self._packages()}"
            case "Prepared":
                return f"installing {self._packages()}"
            case _:
                return f"compiling {self._packages()}"
        if not self._running:
            return f"fetching {self._packages()}, {self._done} large ones are downloaded"
        last = list(self._running.values())[-1]
        more = f" and {len(self._running) - 1} more" if len(self._running) > 1 else ""
        return f"installing {last}{more} ({self._done} of {self._started} downloads done, {self._packages()})"

    def _packages(self) -> str:
        count = len(self._versions)
        return "1 package" if count == 1 else f"{count} packages"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
