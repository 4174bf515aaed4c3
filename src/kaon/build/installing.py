"""What an installation is doing, from the lines that uv writes while it works. Pure."""

from __future__ import annotations

import re

_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)
_LINE = re.compile(
    r"\s*(?P<what>Downloading|Downloaded|Building|Built|Resolved|Prepared|Installed)"
    r"\s(?P<name>\S+)(?: \((?P<size>\S+)\))?"
)


def is_progress(line: str) -> bool:
    """Whether a line says only how far uv is."""
    return _LINE.match(line) is not None or line.startswith("Using Python ")


class Installing:
    """An installation of all that a lock names."""

    def __init__(self, lock_text: str) -> None:
        self._versions = {_normal(name): version for name, version in _PIN.findall(lock_text)}
        self._under_way: dict[str, str] = {}
        self._begun = self._done = 0

    def after(self, line: str) -> str | None:
        """What it is doing now, when this line says something new."""
        found = _LINE.match(line)
        if found is None:
            return None
        what, name = found["what"], _normal(found["name"].partition("==")[0].partition(" @")[0])
        match what:
            case "Downloading" | "Building":
                self._begun += 1
                size = f", {found['size']}" if found["size"] else ""
                self._under_way[name] = f"{name} {self._versions.get(name, '')}".rstrip() + size
            case "Downloaded" | "Built":
                self._done += 1
                self._under_way.pop(name, None)
            case "Resolved":
                return f"fetching {self._packages()}"
            case "Prepared":
                return f"installing {self._packages()}"
            case _:
                return f"compiling {self._packages()}"
        if not self._under_way:
            return f"fetching {self._packages()}, {self._done} large ones are here"
        last = list(self._under_way.values())[-1]
        more = f" and {len(self._under_way) - 1} more" if len(self._under_way) > 1 else ""
        return f"installing {last}{more} ({self._done} of {self._begun} downloads done, {self._packages()})"

    def _packages(self) -> str:
        count = len(self._versions)
        return "1 package" if count == 1 else f"{count} packages"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
