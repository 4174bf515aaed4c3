"""Terminals and pipes as they may be: no command ends in a traceback because of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = {
    "help": ["--help"],
    "version": ["--version"],
    "usage": ["no-such-command"],
    "data": ["config", "show"],
    "many lines": ["doctor"],
    "error": ["call", "größe", "日本", "text=é"],
}
COMPLAINTS = (b"Traceback", b"Exception ignored", b"BrokenPipe", b"UnicodeEncodeError", b"AttributeError")


def started(arguments: list[str], home: Path, redirect: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
    """The command run by a shell with `redirect`, so that its streams are what that says."""
    env = {**os.environ, "KAON_HOME": str(home), "KAON_PORT": "1", **environ}
    code = "import sys; from kaon.cli.root import main; sys.argv[0] = 'kaon'; main()"
    # The arguments go beside the script, never into it.
    return subprocess.run(
        ["/bin/bash", "-c", f'"$0" -c "{code}" "$@" {redirect}', sys.executable, *arguments],
        env=env,
        capture_output=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("redirect", [">&-", "2>&-", ">&- 2>&- <&-", "| true", "2>&1 >/dev/full | cat"])
@pytest.mark.parametrize("what", COMMANDS)
def test_streams_that_are_closed_or_full_or_left_end_quietly(what: str, redirect: str, tmp_path: Path) -> None:
    ended = started(COMMANDS[what], tmp_path, redirect)
    assert not any(complaint in ended.stderr + ended.stdout for complaint in COMPLAINTS)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("what", COMMANDS)
def test_what_a_terminal_cannot_show_is_spelled(what: str, encoding: str, tmp_path: Path) -> None:
    ended = started(COMMANDS[what], tmp_path, "", PYTHONIOENCODING=encoding)
    assert not any(complaint in ended.stderr + ended.stdout for complaint in COMPLAINTS)


def test_a_document_stays_a_document_where_characters_are_spelled() -> None:
    code = (
        "from kaon.cli.shared import output, streams; streams.prepare(); output.put(chr(34) + chr(233) + chr(128512))"
    )
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ended = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True, timeout=60)
    assert ended.stdout == rb'"\u00e9\ud83d\ude00' + b"\n"
