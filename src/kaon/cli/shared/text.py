"""Values as text that is safe on a terminal, and texts as values. Pure.

Names, reasons and log lines that others chose may contain terminal escapes that repaint, retitle or type. `plain`
writes such characters as `\\x1b` and changes nothing else.
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
"""Replaces a space at which no line is broken."""
_LAST_CELL_COLUMNS = 24
"""A table's last cell is wrapped in its column when that is at least so wide, else below the row."""
_INDENT = "    "
_UNITS_BYTES = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def plain(value: object, *, keep: str = "") -> str:
    """`value` as text in which control and invisible characters are escaped, except those in `keep`."""
    return _UNSAFE.sub(lambda m: m.group() if m.group() in keep else _escaped(m.group()), str(value))


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def json_safe(document: str) -> str:
    """The same JSON document with such characters as JSON escapes."""
    return _UNSAFE.sub(lambda m: m.group() if m.group() in "\n" else json_escape(m.group()), document)


def json_escape(characters: str) -> str:
    """Characters as JSON escapes."""
    units = characters.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def width(text: str) -> int:
    """Columns that `text` takes on a terminal."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def table(titles: Sequence[str], rows: Iterable[Sequence[object]], columns: int | None = None) -> str:
    """Rows under their titles; to fit `columns`, the last cell of a row is wrapped. No cell is cut."""
    cells = [[plain(cell) for cell in row] for row in rows]
    lines = [[title.upper() for title in titles], *cells]
    widths = [max(width(line[n]) for line in lines) for n in range(len(titles))]
    begin = sum(widths[:-1]) + 2 * len(widths[:-1])
    drawn: list[str] = []
    for *firsts, last in lines:
        start = "".join(cell + " " * (wide - width(cell) + 2) for cell, wide in zip(firsts, widths[:-1], strict=True))
        drawn += [start + last] if columns is None else _wrapped_row(start, last, begin, columns)
    return "\n".join(row.rstrip() for row in drawn)


def _wrapped_row(start: str, last: str, begin: int, columns: int) -> list[str]:
    """A row as lines that fit: its last cell is wrapped in its column or, where that is too narrow, below the row."""
    if begin + width(last) <= columns:
        return [start + last]
    rows = folded(last, columns - begin) if columns - begin >= _LAST_CELL_COLUMNS else []
    if not rows or any(width(row) > columns - begin for row in rows):  # such as a long URL
        return [start, *(_INDENT + row for row in folded(last, columns - len(_INDENT)))]
    return [start + rows[0], *(" " * begin + row for row in rows[1:])]


def clipped(text: str, columns: int) -> str:
    """The beginning of a text that fits, with an ellipsis when it is cut."""
    if width(text) <= columns:
        return text
    kept, used = [], 1
    for character in text:
        used += width(character)
        if used > columns:
            break
        kept.append(character)
    return "".join(kept) + "…"


def folded(text: str, columns: int, indent: int = 0) -> list[str]:
    """A line as lines that fit, broken between words but not within a command; all but the first are indented.

    A word or command that does not fit stays whole, so that it can be copied.
    """
    if width(text) <= columns:
        return [text] if text else []
    whole = _COMMAND.sub(
        lambda m: m.group().replace(" ", _GLUE) if len(m.group()) < columns - indent else m.group(), text
    )
    lines = textwrap.wrap(
        whole,
        columns,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_GLUE, " ") for line in lines]


def fitted(text: str, columns: int | None, indent: int = 0) -> list[str]:
    """A line as `folded` has it; whole without `columns`, as where standard output is no terminal."""
    return [text] if columns is None else folded(text, columns, indent)


def age(seconds: float) -> str:
    """A duration in its largest unit: '8s', '5m', '3h', '12d'."""
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def since(at: float | None, now: float) -> str:
    """The time since an epoch second; a dash for none."""
    return age(now - at) if at else "-"


def stamp(at: float | None) -> str:
    """An epoch second in UTC; a dash for none."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if at else "-"


def size(count: int) -> str:
    """Bytes in a suitable unit: '512 B', '1.5 MB'."""
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
        raise InvalidInput(f"{plain(text)!r} is not a duration.", hint="Write it like 30s, 5m, 2h or 7d.")
    return float(match.group(1)) * _UNITS_S[match.group(2) or "s"]


def bytes_of(text: str) -> int:
    """'512MiB', '1.5 GB' in bytes. Raises `InvalidInput`."""
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?) ?([kKMG]i?B)", text.strip())
    if match is None or match.group(2) not in _UNITS_BYTES:
        raise InvalidInput(f"{plain(text)!r} is not a number of bytes.", hint="Write it like 512MiB or 2GB.")
    return round(float(match.group(1)) * _UNITS_BYTES[match.group(2)])


def pairs(texts: Iterable[str], option: str) -> dict[str, str]:
    """'K=V' texts as a dictionary. Raises `InvalidInput` that names the option."""
    found: dict[str, str] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise InvalidInput(
                f"{option} {plain(text)} is not of the form NAME=VALUE.", hint=f"Write it as {option} NAME=VALUE."
            )
        found[name] = value
    return found
