"""The catalogue as a file that translators' tools read: gettext's POT, grouped by where a user meets a text. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from kaon.words.extract import Text

GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Command line: commands, options and what they print", ("cli/", "types/kinds/")),
    ("Platform on this machine: start, stop, settings", ("stack/", "settings", "processes", "proc", "context")),
    ("API: errors and audit", ("api/", "errors", "login_throttle", "types/")),
    ("Store: what cannot be read, kept or written", ("store/",)),
    ("Clients and calls between services", ("client/", "__init__")),
    ("Writing a service: classes, signatures, types", ("sdk/",)),
    ("Building and packing", ("build/",)),
    ("Edge: answers in place of a replica", ("edge/",)),
    ("Replicas: answers and refusals", ("runtime/", "laws/admit", "laws/batch")),
    ("Replicas: phases and reasons on a machine", ("agent/", "drivers/")),
    ("Datasets: files, versions, references", ("datasets/", "laws/datasets", "file_stream")),
    ("Placement, rollouts, canaries: reasons, events, conditions", (
        "laws/place", "laws/rollout", "laws/canary", "laws/sequential", "laws/replica_states", "laws/rights",
        "laws/retention", "laws/reports",
    )),
    ("Advice: findings and what they would bring", ("laws/advise/", "control/advising")),
    ("Tuner: states, reasons, trials", ("laws/tune/", "control/tune/")),
    ("Scaling: reasons of decisions", ("laws/", "control/scal")),
    ("Control plane: events and conditions", ("control/",)),
    ("Simulator", ("sim/",)),
)  # fmt: skip
"""Titles, and the modules whose texts are below each; the first that fits counts."""
REFERENCE = "Reference: fields, parameters and metrics"
_HEADER = """\
# Every text of Kaon that a user may read. Written by `make words` from the source; translations stand beside it.
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\\n"
"Content-Transfer-Encoding: 8bit\\n"
"""


def grouped(messages: Iterable[Text]) -> dict[str, list[Text]]:
    """Messages by the title that they belong below, in the order of the titles."""
    groups: dict[str, list[Text]] = {title: [] for title in (*(title for title, _ in GROUPS), REFERENCE)}
    for message in messages:
        groups[REFERENCE if message.kind == "reference" else _title(message.places[0])].append(message)
    return groups


def _title(path: str) -> str:
    module = path.removeprefix("kaon/")
    for title, starts in GROUPS:
        if module.startswith(starts):
            return title
    raise LookupError(f"GROUPS has no title for the texts of {path}")


def pot(messages: Iterable[Text]) -> str:
    """The catalogue as POT."""
    lines = [_HEADER]
    for title, group in grouped(messages).items():
        for number, message in enumerate(group):
            if number == 0:
                lines += [f"# ==== {title} ===="]
            lines += _entry(message)
    return "\n".join(lines)


def _entry(message: Text) -> Iterator[str]:
    notes = [message.kind] if message.kind in ("error", "hint", "help") else []
    notes += [f"{name} is written {form}" for name, form in message.formats.items()]
    if notes:
        yield f"#. {', '.join(notes)}"
    yield f"#: {' '.join(message.places)}"
    if "{" in message.id:
        yield "#, python-brace-format"
    yield f"msgid {json.dumps(message.id, ensure_ascii=False)}"
    yield 'msgstr ""\n'


_LINE = re.compile(r'(?m)^(msgid|msgstr) (".*")$')


def read(text: str) -> dict[str, str]:
    """The messages of a catalogue in the form that `pot` writes, each on a line, and their translations."""
    found: dict[str, str] = {}
    at = ""
    for line in _LINE.finditer(text):
        if line.group(1) == "msgid":
            at = json.loads(line.group(2))
        elif at:
            found[at] = json.loads(line.group(2))
    return found
