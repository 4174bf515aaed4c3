"""The rows of a batch: cut from calls, joined for the handler, and put together again for each caller."""

from __future__ import annotations

import sys
from typing import Any

from kaon.errors import ItemError
from kaon.runtime.call import Call


class Whole:
    """A call of a batched endpoint, and the answers of its parts so far. One part, unless it was too large."""

    __slots__ = ("_answers", "_left", "call")

    def __init__(self, call: Call, parts: int) -> None:
        self.call = call
        self._left = parts
        self._answers: list[Any] = [None] * parts

    def answer(self, part: Part, outcome: Any) -> None:
        """`outcome` is the part's results, or the error that fails the call."""
        if isinstance(outcome, BaseException):
            self.call.end(None, outcome)
            return
        bad = part.first_error(outcome)
        if bad is not None:
            self.call.end(None, bad)
            return
        self._answers[part.index] = outcome
        self._left -= 1
        if self._left == 0:
            single = len(self._answers) == 1
            self.call.end(self._answers[0] if single else [row for answer in self._answers for row in answer])


class Part:
    """Rows `start` to `stop` of one call: what a batch is made of."""

    __slots__ = ("call", "index", "rows", "start", "whole")

    def __init__(self, whole: Whole, index: int, start: int, stop: int) -> None:
        self.whole = whole
        self.call = whole.call
        self.index = index
        self.start = start
        self.rows = stop - start

    def first_error(self, results: Any) -> ItemError | None:
        """The first `ItemError` among the part's results."""
        if not isinstance(results, list | tuple):
            return None
        for row, result in enumerate(results):
            if isinstance(result, ItemError):
                return self.told(result, row)
        return None

    def told(self, error: ItemError, row: int | None) -> ItemError:
        """`error` as the caller should read it: with the place in the caller's own rows, when there are many."""
        if row is None or self.call.rows == 1:
            return error
        place = self.start + row
        where = [{"where": f"row {place}", "problem": error.cause}]
        return ItemError(f"Row {place}: {error.cause}", index=place, hint=error.hint, errors=error.errors or where)


def fitting(parts: list[Part]) -> list[list[Part]]:
    """Parts that can be joined, together: those whose callers gave the same parameters."""
    groups: dict[frozenset[str], list[Part]] = {}
    for part in parts:
        groups.setdefault(frozenset(part.call.arguments), []).append(part)
    return list(groups.values())


def joined(parts: list[Part]) -> dict[str, Any]:
    """The handler's arguments: each parameter's rows of all parts, in order."""
    if len(parts) == 1 and parts[0].rows == parts[0].call.rows:
        return parts[0].call.arguments
    return {name: _rows(name, parts) for name in parts[0].call.arguments}


def _rows(name: str, parts: list[Part]) -> Any:
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(parts[0].call.arguments[name], numpy.ndarray):
        return numpy.concatenate([part.call.arguments[name][part.start : part.start + part.rows] for part in parts])
    rows: list[Any] = []
    for part in parts:
        values = part.call.arguments[name]
        if part.rows == len(values):
            rows.extend(values)
        else:
            rows.extend(list(values)[part.start : part.start + part.rows])
    return rows
