"""Log lines as people read them."""

from __future__ import annotations

import json

from kaon.cli.shared.log_lines import log_text, own_frames
from kaon.drivers.port import LogLine
from kaon.log import is_at_least

AT = 1_700_000_000.25
TRACEBACK = """\
Traceback (most recent call last):
  File "/v/lib/python3.11/site-packages/kaon/runtime/lane.py", line 12, in run
    return await work(self)
           ^^^^^^^^^^^^^^^^
  File "/v/lib/python3.11/site-packages/starlette/routing.py", line 9, in app
    await call()
  File "/home/me/artifacts/0a/src/shop.py", line 7, in price
    return PRICES[item]
           ~~~~~~^^^^^^
KeyError: 'tea'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/home/me/artifacts/0a/src/shop.py", line 9, in price
    raise ValueError("no price")
ValueError: no price"""


def line(text: str, at: float | None = AT) -> LogLine:
    return LogLine(replica="shop-1-0", text=text, at=at)


def test_a_structured_line_is_time_replica_level_message_fields_and_request_id() -> None:
    entry = {"timestamp": "x", "level": "warning", "logger": "shop", "event": "slow", "took_s": 1.5, "request_id": "r1"}
    assert log_text(line(json.dumps(entry))) == ["22:13:20.250  shop-1-0  WARNING  slow  took_s=1.5  [r1]"]
    assert log_text(line(json.dumps(entry)), named=False) == ["22:13:20.250  WARNING  slow  took_s=1.5  [r1]"]


def test_a_print_has_a_time_where_one_is_known() -> None:
    assert log_text(line("hello\tworld")) == ["22:13:20.250  shop-1-0           hello\tworld"]
    assert log_text(line("hello", None)) == ["-             shop-1-0           hello"]
    assert log_text(line('{"no": "event"}'))[0].endswith('{"no": "event"}')


def test_lines_of_other_json_loggers_are_read_as_well() -> None:
    assert log_text(line('{"level": "ERROR", "message": "gone"}')) == ["22:13:20.250  shop-1-0  ERROR    gone"]


def test_a_traceback_has_the_frames_of_the_service_only() -> None:
    shown = log_text(line(json.dumps({"event": "the handler failed", "level": "error", "exception": TRACEBACK})))
    text = "\n".join(shown)
    assert "runtime/lane.py" not in text
    assert "routing.py" not in text
    assert "await work" not in text
    assert text.count("shop.py") == 2
    assert "KeyError: 'tea'" in text
    assert "During handling" in text
    assert shown[-1] == "    ValueError: no price"


def test_a_traceback_without_frames_of_the_service_stays_whole() -> None:
    lines = [*TRACEBACK.splitlines()[:4], "RuntimeError: broken"]
    assert own_frames(lines) == lines


def test_nothing_that_a_service_writes_reaches_the_terminal_as_an_escape() -> None:
    evil = json.dumps(
        {"event": "\x1b[2J", "level": "\x1b", "x": "\u202e", "request_id": "\x07", "exception": "\x1b]0;x"}
    )
    assert not set("\x1b\x07\u202e") & set("".join(log_text(line(evil)) + log_text(line("\x1b[31m"))))


def test_a_level_selects_it_and_higher_ones_and_no_prints() -> None:
    texts = [json.dumps({"event": "x", "level": level}) for level in ("debug", "info", "warning", "error", "odd")]
    assert [is_at_least(text, "warning") for text in (*texts, "a print", "{")] == [
        False,
        False,
        True,
        True,
        *[False] * 3,
    ]
