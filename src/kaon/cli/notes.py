"""What a command says beside its data: notes, questions and errors, all on standard error."""

from __future__ import annotations

import re
import shutil
import sys

from kaon.cli.text import folded, plain
from kaon.errors import InvalidInput, KaonError


class Declined(KaonError):
    """The answer to a question was no."""

    code = "declined"


def note(text: str) -> None:
    """Say something to the person at the terminal; escapes are spelled out, and lines stay lines where they fit."""
    said = plain(text, keep="\n")
    if sys.stderr.isatty():
        columns = shutil.get_terminal_size().columns
        said = "\n".join(row for line in said.split("\n") for row in folded(line, columns, _under(line)) or [""])
    sys.stderr.write(said + "\n")
    sys.stderr.flush()


def _under(line: str) -> int:
    """Where a line goes on below itself: under what is said, not under 'hint:' or what it is about."""
    label = re.match(r"\s*(?:error: |hint: +)?", line)
    return label.end() if label else 0


def ask(question: str, *, yes: bool) -> None:
    """Return when the answer is yes. Raises `Declined` when it is no, `InvalidInput` when nobody can answer."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidInput(f"{question} Nobody is at the terminal to say yes.", hint="Add -y if it is meant.")
    sys.stderr.write(plain(question) + " [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Declined("Nothing was changed.")


def failure(error: KaonError) -> str:
    """An error as people read it: cause, places, hint, and what to quote when asking for help."""
    lines = [f"error: {plain(error.cause)} ({plain(error.code)})"]
    for entry in error.errors[:20]:
        where, what = entry.get("where"), entry.get("problem") or entry.get("message") or entry.get("line") or ""
        lines.append(f"  {plain(where)}: {plain(what)}" if where else f"  {plain(what)}")
    if error.hint:
        lines.append(f"hint:  {plain(error.hint)}")
    if error.retry_after_s is not None:
        lines.append(f"again: in {error.retry_after_s:.0f} s")
    if error.request_id:
        lines.append(f"request id: {plain(error.request_id)}")
    return "\n".join(lines)
