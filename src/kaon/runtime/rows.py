"""The rows of a batch: split from calls, joined for the handler, and reassembled for each caller."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from kaon.errors import ItemError
from kaon.laws.batch import parts
from kaon.runtime.call import Call


class SplitCall:
    """A call of a batched endpoint, and the results of its parts so far. It has one part unless it is too large."""

    __slots__ = ("_answers", "_left", "call")

    def __init__(self, call: Call) -> None:
        self.call = call
        self._left = call.rows
        self._answers: dict[int, Any] = {}
        """By the part's first row."""

    def answer(self, part: RowSlice, outcome: Any) -> None:
        """`outcome` is the part's results, or the error that fails the call. Never raises."""
        try:
            bad = outcome if isinstance(outcome, BaseException) else part.first_error(outcome)
            if bad is not None:
                self.call.end(None, bad)
                return
            self._answers[part.start] = outcome
            self._left -= part.rows
            if self._left == 0:
                single = len(self._answers) == 1
                self.call.end(outcome if single else [row for at in sorted(self._answers) for row in self._answers[at]])
        except BaseException as error:  # raised by the results' own methods
            self.call.end(None, error)


class RowSlice:
    """Rows `start` to `stop` of one call."""

    __slots__ = ("call", "rows", "start", "whole")

    def __init__(self, whole: SplitCall, start: int, stop: int) -> None:
        self.whole = whole
        self.call = whole.call
        self.start = start
        self.rows = stop - start

    def cut(self, most: int) -> list[RowSlice]:
        """Its rows as parts of at most `most` rows, in order; itself if it is not larger."""
        if self.rows <= most:
            return [self]
        return [RowSlice(self.whole, self.start + start, self.start + stop) for start, stop in parts(self.rows, most)]

    def first_error(self, results: Any) -> ItemError | None:
        """The first `ItemError` among the part's results."""
        if not isinstance(results, list | tuple):
            return None
        for row, result in enumerate(results):
            if isinstance(result, ItemError):
                return self.with_caller_row(result, row)
        return None

    def with_caller_row(self, error: ItemError, row: int | None) -> ItemError:
        """`error` with the index in the caller's own rows, when there are several."""
        if row is None or self.call.rows == 1:
            return error
        place = self.start + row
        where = [{"where": f"row {place}", "problem": error.cause}]
        return ItemError(f"Row {place}: {error.cause}", index=place, hint=error.hint, errors=error.errors or where)


def joinable(found: Sequence[RowSlice]) -> list[list[RowSlice]]:
    """Groups of parts that can be joined: with the same parameters, and arrays of the same shape and dtype."""
    groups: dict[frozenset[tuple[str, Any]], list[RowSlice]] = {}
    for part in found:
        key = frozenset((name, _kind(value)) for name, value in part.call.arguments.items())
        groups.setdefault(key, []).append(part)
    return list(groups.values())


def _kind(value: Any) -> Any:
    """Row shape and dtype, which arrays must share to be joined; None: not an array."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.ndarray):
        return None
    return value.shape[1:], value.dtype.str


def joined(found: Sequence[RowSlice]) -> dict[str, Any]:
    """The handler's arguments: each parameter's rows of all parts, in order."""
    if len(found) == 1 and found[0].rows == found[0].call.rows:
        return found[0].call.arguments
    return {name: _rows(name, found) for name in found[0].call.arguments}


def _rows(name: str, found: Sequence[RowSlice]) -> Any:
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(found[0].call.arguments[name], numpy.ndarray):
        return numpy.concatenate([part.call.arguments[name][part.start : part.start + part.rows] for part in found])
    rows: list[Any] = []
    for part in found:
        values = part.call.arguments[name]
        if part.rows == len(values):
            rows.extend(values)
        else:
            rows.extend(list(values)[part.start : part.start + part.rows])
    return rows
