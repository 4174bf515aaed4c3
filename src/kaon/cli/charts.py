"""Charts of characters, for terminals. Pure."""

from __future__ import annotations

from collections.abc import Sequence

_EIGHTHS = " ▁▂▃▄▅▆▇█"


def columns(values: Sequence[float], most: float, height: int) -> list[str]:
    """One column for each value, `most` as high as `height` lines; the highest line first."""
    filled = [max(0, min(8 * height, round(8 * height * value / most))) if most > 0 else 0 for value in values]
    return ["".join(_EIGHTHS[min(8, max(0, f - 8 * line))] for f in filled) for line in range(height - 1, -1, -1)]


def chart(title: str, values: Sequence[float], *, most: float | None = None, height: int = 3) -> str:
    """Columns under a title, with their scale at the left; `most` is the highest value unless given."""
    most = max(values, default=0) if most is None else most
    lines = columns(values, most, height)
    marks = [f"{most:.4g}", *[""] * (height - 2), "0"] if height > 1 else [f"{most:.4g}"]
    return "\n".join([title, *(f"{mark:>7} ┤{line}" for mark, line in zip(marks, lines, strict=True))])
