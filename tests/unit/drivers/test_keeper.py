"""What the keeper of a replica's log makes of what is written to it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.waiting import eventually

from kaon.drivers.process import keeper
from kaon.drivers.process.keeper import BAR_S, LINE_MOST_BYTES, OPEN_S, QUIET_S, Lines


def test_lines_are_kept_as_they_are_whatever_pieces_they_come_in() -> None:
    lines = Lines()
    assert [lines.feed(piece, 0.0) for piece in (b"one\ntw", b"o", b"\n\nthree\r\n")] == [
        *(b"one\n", b"", b"two\n\nthree\n")
    ]
    assert lines.due_at() == math.inf


def test_a_line_without_its_end_is_shown_when_nothing_follows() -> None:
    lines = Lines()
    lines.feed(b"loading... ", 10.0)
    assert lines.due_at() == 10.0 + QUIET_S
    assert lines.flush(10.5) == b"loading... \n"
    assert lines.feed(b"done\n", 30.0) == b"done\n"


def test_the_end_of_a_line_that_is_shown_already_makes_no_empty_one() -> None:
    lines = Lines()
    lines.feed(b"loading", 0.0)
    lines.flush(1.0)
    assert lines.feed(b"\nnext\n\n", 2.0) == b"next\n\n"


def test_a_line_that_grows_for_ever_is_shown_from_time_to_time() -> None:
    lines, now = Lines(), 0.0
    while lines.due_at() > now:
        lines.feed(b"token ", now)
        now += 0.1
    assert now == pytest.approx(OPEN_S, abs=0.2)


def test_a_progress_bar_is_its_last_state() -> None:
    lines = Lines()
    kept = b"".join(lines.feed(b"\rloading %3d%%" % n, n / 1000) for n in range(101))
    assert kept + lines.feed(b"\n", 1.0) == b"loading 100%\n"
    assert lines.feed(b"\r 50%\r100%\r     \rafter it\n", 2.0) == b"after it\n", "a bar that wipes itself out"


def test_a_long_progress_bar_shows_its_state_now_and_then() -> None:
    lines, now, kept = Lines(), 0.0, b""
    for n in range(600):  # a minute
        kept += lines.feed(b"\rstep %d" % n, now)
        now += 0.1
        if lines.due_at() <= now:
            kept += lines.flush(now)
    assert 60 / BAR_S <= kept.count(b"\n") <= 60 / BAR_S + 2


def test_secrets_are_blotted_the_longest_first_in_whole_and_unfinished_lines() -> None:
    lines = Lines([b"sesame", b"sesame-open", b""])
    assert lines.feed(b"say sesame-open, sesame\nunfinished ses", 0.0) == b"say ******, ******\n"
    lines.feed(b"ame", 0.1)
    assert lines.flush(1.0) == b"unfinished ******\n"


@pytest.mark.parametrize("at", [LINE_MOST_BYTES - 12, LINE_MOST_BYTES - 3, LINE_MOST_BYTES, LINE_MOST_BYTES + 5])
def test_a_line_without_end_is_cut_and_no_secret_with_it(at: int) -> None:
    lines, secret = Lines([b"sesame-open"]), b"sesame-open"
    kept = b"".join(lines.feed(piece, 0.0) for piece in (b"x" * at, secret, b"y" * LINE_MOST_BYTES, b"\n"))
    assert secret not in kept.replace(b"\n", b"")
    assert kept.count(b"y") == LINE_MOST_BYTES
    assert max(map(len, kept.split(b"\n"))) <= LINE_MOST_BYTES + len(secret)


Write = Callable[[bytes], None]


class Kept:
    """A keeper's process, and what it keeps."""

    def __init__(self, folder: Path, max_bytes: int, hidden: list[str]) -> None:
        self.file = folder / "log"
        reading, self.pipe = os.pipe()
        command = [sys.executable, "-I", "-S", keeper.__file__, str(reading), str(self.file), str(max_bytes)]
        self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, env={}, pass_fds=(reading,))
        os.close(reading)
        assert self.popen.stdin is not None
        self.popen.stdin.write(json.dumps({"hidden": hidden, "run": None}).encode())
        self.popen.stdin.close()

    def text(self) -> bytes:
        return self.file.read_bytes() if self.file.exists() else b""

    def end(self) -> bytes:
        os.close(self.pipe)
        assert self.popen.wait(10) == 0
        return self.text()


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Callable[..., Kept]]:
    made: list[Kept] = []

    def start(max_bytes: int = 2**20, hidden: tuple[str, ...] = ()) -> Kept:
        made.append(Kept(tmp_path, max_bytes, list(hidden)))
        return made[-1]

    yield start
    for kept in made:
        kept.popen.kill()
        kept.popen.wait()


def test_what_is_flushed_is_seen_soon_and_the_last_words_are_kept(keep: Callable[..., Kept]) -> None:
    kept = keep(hidden=("hünter2",))
    os.write(kept.pipe, b"no newline")
    eventually(lambda: kept.text() == b"no newline\n")
    os.write(kept.pipe, "the last words: hünter2".encode())
    assert kept.end() == b"no newline\nthe last words: ******\n"


def test_it_ignores_who_asks_it_to_stop_while_somebody_writes(keep: Callable[..., Kept]) -> None:
    kept = keep()
    os.write(kept.pipe, b"one\n")
    eventually(lambda: kept.text() == b"one\n")
    kept.popen.terminate()
    os.write(kept.pipe, b"two\n")
    assert kept.end() == b"one\ntwo\n"


def test_the_log_is_rotated_and_few_files_are_kept(keep: Callable[..., Kept], tmp_path: Path) -> None:
    kept = keep(max_bytes=50_000)
    for number in range(6 * 60):
        os.write(kept.pipe, b"%999d\n" % number)
    kept.end()
    assert sorted(path.name for path in tmp_path.glob("log*")) == ["log", "log.1", "log.2", "log.3"]
    everything = b"".join((tmp_path / name).read_bytes() for name in ("log.3", "log.2", "log.1", "log"))
    numbers = [int(line) for line in everything.splitlines()]
    assert numbers == list(range(numbers[0], 360))
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_written_holds_nobody_up(keep: Callable[..., Kept], tmp_path: Path) -> None:
    kept = keep()
    (tmp_path / "log").mkdir()
    for _ in range(100):
        os.write(kept.pipe, b"x" * 10_000 + b"\n")  # more than a pipe holds
    (tmp_path / "log").rmdir()
    os.write(kept.pipe, b"again\n")
    assert kept.end().endswith(b"again\n")
