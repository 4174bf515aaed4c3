import json

import pytest

from kaon import errors
from kaon.errors import KaonError, NotFound, TooManyRequests, from_problem


def every_error() -> list[type[KaonError]]:
    """Those of the tree; a part of Kaon may refine one for itself, and a stranger sees the one that it refines."""
    found = [error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, KaonError)]
    return [error for error in found if error.__module__ == errors.__name__]


@pytest.mark.parametrize("error", every_error())
def test_every_error_comes_back_from_the_wire_as_itself(error: type[KaonError]) -> None:
    sent = error("the cause", hint="the next command", retry_after_s=1.5, errors=[{"where": "body.k", "problem": "x"}])
    received = from_problem(sent.status, json.loads(sent.problem_json("r-1")))
    assert type(received) is error
    assert (received.cause, received.hint) == ("the cause", "the next command")
    assert received.retry_after_s == 1.5
    assert received.errors == sent.errors


def test_codes_are_unique_and_documented() -> None:
    codes = [error.code for error in every_error()]
    assert len(set(codes)) == len(codes)
    for error in every_error()[1:]:
        assert error.__name__ in (errors.__doc__ or "")


def test_an_unknown_problem_is_named_by_its_status() -> None:
    assert type(from_problem(404, {})) is NotFound
    assert type(from_problem(429, {"code": "rate"})) is TooManyRequests
    assert type(from_problem(418, {"title": "teapot"})) is KaonError


def test_a_problem_holds_nothing_of_the_exception_but_what_was_said() -> None:
    try:
        raise ValueError("password=hunter2")
    except ValueError as cause:
        error = KaonError()
        error.__cause__ = cause
    assert b"hunter2" not in error.problem_json()


def test_the_text_of_an_error_has_its_hint() -> None:
    assert str(errors.NotFound("No deployment 'x'.", hint="List them: kaon ps")) == (
        "No deployment 'x'. Hint: List them: kaon ps"
    )
    assert str(errors.NotFound("Gone.")) == "Gone."
