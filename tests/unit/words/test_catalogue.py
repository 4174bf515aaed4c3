"""The catalogue is fresh, whole, and in a form that translators' tools read."""

import io

import pytest
import typer.main
from babel.messages.pofile import read_po
from tests.unit.words.catalogue import IDS, TEXT

from kaon.cli.root import app
from kaon.words import match
from kaon.words.__main__ import sources
from kaon.words.catalogue import GROUPS, REFERENCE, pot, read
from kaon.words.extract import Text, extract


def test_it_is_fresh() -> None:
    assert pot(extract(sources())) == TEXT, "the texts of the source have changed: run `make words`"


def test_translators_tools_read_it_as_we_do() -> None:
    catalogue = read_po(io.BytesIO(TEXT.encode()))

    assert sorted(str(message.id) for message in catalogue if message.id) == IDS
    assert all(not list(message.check()) for message in catalogue)


def test_a_translation_is_read_by_the_same_reader() -> None:
    translated = pot([Text('say "no"\n', "text", ["kaon/api/app.py"])]).replace('msgstr ""\n', 'msgstr "nein"\n')

    assert read(translated)['say "no"\n'] == "nein"


def test_it_is_grouped_by_where_a_user_meets_a_text() -> None:
    titles = [line[len("# ==== ") : -len(" ====")] for line in TEXT.splitlines() if line.startswith("# ====")]

    assert titles == [title for title, _ in GROUPS] + [REFERENCE]


def commands() -> list[tuple[str, str]]:
    """Each help text of the command line, by its command."""
    found: list[tuple[str, str]] = []

    def walk(command: object, path: str) -> None:
        for parameter in getattr(command, "params", ()):
            if parameter.name not in ("help", "install_completion", "show_completion"):
                found.append((f"{path} {parameter.name}", getattr(parameter, "help", None) or ""))
        summary = getattr(command, "help", None) or ""
        found.append((path, summary.split("\n\n")[0]))
        for name, below in getattr(command, "commands", {}).items():
            walk(below, f"{path} {name}")

    walk(typer.main.get_command(app), "kaon")
    return found


@pytest.mark.parametrize(("where", "text"), [pytest.param(w, t, id=w) for w, t in commands() if t])
def test_every_help_text_of_the_command_line_is_in_it(where: str, text: str) -> None:
    assert match(text) is not None, where
