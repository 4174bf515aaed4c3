"""From values to text that is safe on a terminal, and back. Pure.

Whatever a server, a service or another user chose (names, reasons, log lines) may hold terminal escapes that
repaint, retitle or type for the reader. `plain` shows such characters as what they are, `\\x1b`, and does nothing else.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from kaon.errors import InvalidInput

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e0fff]"
)
_COMMAND = re.compile(r"\bkaon (?:[^;`,]|,(?=\S))*")
_GLUE = "\uf8ff"
"""Stands for a space that no line is broken at."""
_LEAST = 24
"""Columns that a table's last one needs to be broken into lines where it is."""
_IN = "    "
_UNITS_BYTES = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def plain(value: object, *, keep: str = "") -> str:
    """`value` as text in which every control or invisible character is spelled out, but those in `keep`."""
    return _UNSAFE.sub(lambda m: m.group() if m.group() in keep else _spelled(m.group()), str(value))


def _spelled(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def json_safe(document: str) -> str:
    """A JSON document in which no such character stands for itself; it means the same."""
    return _UNSAFE.sub(lambda m: m.group() if m.group() in "\n" else _json_escape(m.group()), document)


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def width(text: str) -> int:
    """Columns that `text` takes."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def table(titles: Sequence[str], rows: Iterable[Sequence[object]], columns: int | None = None) -> str:
    """Rows under their titles, in columns two spaces apart; to fit `columns`, what is last goes on below itself."""
    cells = [[plain(cell) for cell in row] for row in rows]
    lines = [[title.upper() for title in titles], *cells]
    widths = [max(width(line[n]) for line in lines) for n in range(len(titles))]
    begin = sum(widths[:-1]) + 2 * len(widths[:-1])
    drawn: list[str] = []
    for *firsts, last in lines:
        begun = "".join(cell + " " * (wide - width(cell) + 2) for cell, wide in zip(firsts, widths[:-1], strict=True))
        drawn += [begun + last] if columns is None else _below(begun, last, begin, columns)
    return "\n".join(row.rstrip() for row in drawn)


def _below(begun: str, last: str, begin: int, columns: int) -> list[str]:
    """A line of a table as several: its last cell goes on below itself or, where that is too narrow, the others."""
    if begin + width(last) <= columns:
        return [begun + last]
    if columns - begin < _LEAST:
        return [begun, *(_IN + row for row in folded(last, columns - len(_IN)))]
    first, *others = folded(last, columns - begin)
    return [begun + first, *(" " * begin + other for other in others)]


def folded(text: str, columns: int, under: int = 0) -> list[str]:
    """A line as lines that fit, broken between words and not within a command; all but the first begin `under`.

    A word, or a command, that is too long by itself stays whole: it must be right when it is copied.
    """
    if width(text) <= columns:
        return [text] if text else []
    whole = _COMMAND.sub(
        lambda m: m.group().replace(" ", _GLUE) if len(m.group()) < columns - under else m.group(), text
    )
    lines = textwrap.wrap(
        whole,
        columns,
        subsequent_indent=" " * under,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_GLUE, " ") for line in lines]


def age(seconds: float) -> str:
    """A length of time in its largest unit: '8s', '5m', '3h', '12d'."""
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def since(at: float | None, now: float) -> str:
    """How long ago an epoch second was; a dash for never."""
    return age(now - at) if at else "-"


def stamp(at: float | None) -> str:
    """An epoch second as people in all zones read it; a dash for never."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if at else "-"


def size(count: int) -> str:
    """Bytes in the unit that fits: '512 B', '1.5 MB'."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"


def seconds(text: str) -> float:
    """'90', '90s', '5m', '2h', '7d', '10 ms' in seconds. Raises `InvalidInput`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(ms|[smhdw]?)", text.strip())
    if match is None:
        raise InvalidInput(f"{plain(text)!r} is not a length of time.", hint="Write it like 30s, 5m, 2h or 7d.")
    return float(match.group(1)) * _UNITS_S[match.group(2) or "s"]


def bytes_of(text: str) -> int:
    """'512MiB', '1.5 GB' in bytes. Raises `InvalidInput`."""
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?) ?([kKMG]i?B)", text.strip())
    if match is None or match.group(2) not in _UNITS_BYTES:
        raise InvalidInput(f"{plain(text)!r} is no number of bytes.", hint="Write it like 512MiB or 2GB.")
    return round(float(match.group(1)) * _UNITS_BYTES[match.group(2)])


def pairs(texts: Iterable[str], option: str) -> dict[str, str]:
    """'K=V' texts as a dictionary. Raises `InvalidInput` that names the option."""
    found: dict[str, str] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            lacks = "no '='" if not separator else "no name before its '='"
            raise InvalidInput(f"{option} {plain(text)} has {lacks}.", hint=f"Write it as {option} NAME=VALUE.")
        found[name] = value
    return found
