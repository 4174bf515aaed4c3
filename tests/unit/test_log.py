import io
import json

import pytest
import structlog

from kaon import log


@pytest.fixture
def lines() -> io.StringIO:
    out = io.StringIO()
    log.configure(stream=out)
    structlog.configure(cache_logger_on_first_use=False)
    return out


def test_a_line_is_one_json_object_with_level_and_time(lines: io.StringIO) -> None:
    log.get("edge").info("started", port=8080)
    (line,) = lines.getvalue().splitlines()
    said = json.loads(line)
    assert (said["event"], said["part"], said["level"], said["port"]) == ("started", "edge", "info", 8080)
    assert "timestamp" in said


def test_a_hidden_value_is_blotted_out_of_every_field(lines: io.StringIO) -> None:
    log.hide("s3cr3t-value")
    log.get("x").warning("got s3cr3t-value", url="http://u:s3cr3t-value@db")
    assert "s3cr3t-value" not in lines.getvalue()
    assert "******" in lines.getvalue()


def test_line_breaks_in_a_value_do_not_make_a_second_line(lines: io.StringIO) -> None:
    log.get("x").info("one\ntwo", name='a\n{"event":"forged"}')
    assert len(lines.getvalue().splitlines()) == 1


def test_an_exception_is_spelled_out_line_by_line_and_any_other_line_is_itself() -> None:
    line = json.dumps({"level": "error", "event": "it failed", "exception": "Traceback\n  at\nKeyError: 'x'\n"})
    assert log.spelled(line) == ['{"level": "error", "event": "it failed"}', "Traceback", "  at", "KeyError: 'x'"]
    for plain in (
        "plain",
        "{broken",
        '{"level": "info", "event": "e"}',
        '{"level": 1, "event": 2, "exception": 3}',
        "{}",
    ):
        assert log.spelled(plain) == [plain]
