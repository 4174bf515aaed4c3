"""What a command prints beside its data, on standard error: notes, questions and errors."""

from __future__ import annotations

import re
import shutil
import sys

from kaon.cli.shared.text import folded, plain
from kaon.errors import InvalidInput, KaonError


class Declined(KaonError):
    """The answer to a question was no."""

    code = "declined"


def note(text: str) -> None:
    """Print a note; control characters are escaped, and on a terminal lines are wrapped between words."""
    columns = shutil.get_terminal_size().columns if sys.stderr.isatty() else None
    sys.stderr.write(note_text(text, columns) + "\n")
    sys.stderr.flush()


def note_text(text: str, columns: int | None) -> str:
    """A note as it is printed; its lines fit `columns`, if given. Pure."""
    lines = plain(text, keep="\n")
    if columns is None:
        return lines
    return "\n".join(row for line in lines.split("\n") for row in folded(line, columns, _indent(line)) or [""])


def _indent(line: str) -> int:
    """Where a wrapped line continues: behind its label."""
    label = re.match(r"\s*(?:error: |hint: +)?", line)
    return label.end() if label else 0


def ask(question: str, *, yes: bool) -> None:
    """Return when the answer is yes. Raises `Declined` when it is no, `InvalidInput` without a terminal."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidInput(f"{question} Standard input is not a terminal.", hint="Add -y to confirm.")
    sys.stderr.write(plain(question) + " [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Declined("Nothing was changed.")


def failure(error: KaonError) -> str:
    """An error for people: cause, places, hint, and the request id to quote when asking for help."""
    lines = [f"error: {plain(error.cause)} ({plain(error.code)})"]
    for entry in error.errors[:20]:
        where, what = entry.get("where"), entry.get("problem") or entry.get("message") or entry.get("line") or ""
        lines.append(f"  {plain(where)}: {plain(what)}" if where else f"  {plain(what)}")
    if error.hint:
        lines.append(f"hint:  {plain(error.hint)}")
    if error.retry_after_s is not None:
        lines.append(f"retry: in {error.retry_after_s:.0f} s")
    if error.request_id:
        lines.append(f"request id: {plain(error.request_id)}")
    return "\n".join(lines)
