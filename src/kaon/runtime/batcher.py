"""The lane of a batched endpoint: gathers calls and hands them to the handler as `kaon.laws.batch` decides.

Calls wait in a deque; after each change the law decides, and its decision is carried out. Calls that share a batch must
not affect each other. And a batch always ends, whatever a handler returns or raises: `_served` takes any value and
never raises.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kaon.errors import BadAnswer, ItemError
from kaon.laws import batch, service_time
from kaon.runtime.call import Call
from kaon.runtime.lane import Lane
from kaon.runtime.rows import RowSlice, SplitCall, joinable, joined
from kaon.runtime.steps import Stepper
from kaon.runtime.threads import Worker
from kaon.sdk.endpoint import Endpoint
from kaon.types.knobs import Knobs


@dataclass(slots=True, eq=False)
class _Batch:
    """Calls that share a slot; several rounds when some of them must be repeated."""

    began_at: float
    rounds: deque[list[RowSlice]]
    rows: int
    live: int
    stop: Callable[[], object] | None = None
    waits: bool = False
    """Whether the handler is running a round."""
    advancing: bool = False
    outcomes: list[tuple[RowSlice, Any]] = field(default_factory=list)
    """Of completed rounds, not yet reported."""

    def next(self) -> list[RowSlice] | None:
        """The live parts of the next round; None: there is none."""
        while self.rounds:
            live = [part for part in self.rounds.popleft() if not part.call.ended]
            if live:
                return live
        return None

    def one_left(self) -> None:
        """A call of the batch ended early; a batch without live calls is cancelled."""
        self.live -= 1
        if self.live <= 0 and self.stop is not None:
            self.stop()


class BatchLane(Lane):
    """Gathers calls into batches."""

    def __init__(
        self, endpoint: Endpoint, instance: Any, loop: asyncio.AbstractEventLoop, stepper: Stepper, worker: Worker
    ) -> None:
        super().__init__(endpoint, endpoint.spec.concurrency or 1, loop)
        assert endpoint.spec.batch is not None
        self._own = self._spec = endpoint.spec.batch
        """As declared, and as limited by knobs."""
        self._handler: Callable[..., Any] = endpoint.function.__get__(instance)
        self._stepper = stepper if endpoint.is_async else None
        self._worker = worker
        self._gathered: deque[RowSlice] = deque()
        """Taken from the queue: the parts of the next batch, and one more."""
        self._turn: asyncio.Handle | None = None
        self._held = False
        """Whether that turn is the end of a batch's waiting time: a new call may complete the batch before."""
        self._deciding = False
        self.cost = service_time.ServiceTime()
        self._began = 0

    def enter(self, call: Call) -> None:
        """Queue the call for the next batch, which begins at the end of this turn of the loop if a slot is free."""
        call.rows = self.signature.rows(call.arguments)
        self._wait(call, RowSlice(SplitCall(call), 0, call.rows).cut(self._spec.max_size))
        if call.rows == 0:
            call.end([])
            return
        if (self._turn is None or self._held) and self.busy < self.slots:
            self._decide_soon()

    def tune(self, knobs: Knobs) -> None:
        """Apply `knobs` from the next batch on. Queued parts that are too large now are split again."""
        own = self._own
        most, wait_s = knobs.max_batch or own.max_size, knobs.max_wait_s
        self._spec = own.model_copy(
            update={
                "max_size": min(most, own.max_size),
                "max_wait_s": own.max_wait_s if wait_s is None else min(wait_s, own.max_wait_s),
            }
        )
        cut = partial(RowSlice.cut, most=self._spec.max_size)
        self._queue.recut(cut)
        self._gathered = deque(piece for part in self._gathered for piece in cut(part))
        self._resize(knobs.concurrency)
        self._decide_soon()

    @property
    def began(self) -> int:
        """Calls that were put into a batch."""
        return self._began

    def close(self) -> None:
        self._worker.close()

    def _run(self, call: Call) -> None:
        raise NotImplementedError("a batch lane runs batches")

    def _decide_soon(self) -> None:
        """Decide at the end of this turn of the loop."""
        if self._turn is not None:
            self._turn.cancel()
        self._turn, self._held = self._loop.call_soon(self._decide), False

    def _decide(self) -> None:
        """Start batches until the law holds."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn, self._held = None, False
        if self._deciding:  # a batch ended without waiting: the loop below continues
            return
        self._deciding = True
        try:
            self._release_all()
        finally:
            self._deciding = False

    def _release_all(self) -> None:
        while self.busy < self.slots and self._gather():
            match batch.decide(self._spec, self.cost, self._waiting()):
                case batch.Release(calls=count):
                    parts = [self._gathered.popleft() for _ in range(count)]
                    live = [part for part in parts if not part.call.ended]
                    if live:
                        self._start(live)
                case batch.Hold(again_s=again_s):
                    if again_s is not None:
                        self._turn, self._held = self._loop.call_later(again_s, self._decide), True
                    return

    def _gather(self) -> bool:
        """Take from the queue, in order, what the next batch may need; whether there is anything."""
        gathered = self._gathered
        while gathered and gathered[0].call.ended:
            gathered.popleft()
        if not gathered and (first := self._next()) is not None:
            gathered.append(first)
        if not gathered:
            return False
        most = batch.limit(self._spec, self.cost, self._oldest_wait_s())
        rows = sum(part.rows for part in gathered)
        while rows <= most and (part := self._next()) is not None:
            gathered.append(part)
            rows += part.rows
        return True

    def _oldest_wait_s(self) -> float:
        return time.monotonic() - min(part.call.entered_at for part in self._gathered)

    def _waiting(self) -> batch.Waiting:
        return batch.Waiting(
            rows=tuple(part.rows for part in self._gathered),
            oldest_wait_s=self._oldest_wait_s(),
            running=self.busy,
            slots=self.slots,
        )

    def _rows_per_round(self) -> int:
        return batch.limit(self._spec, self.cost, 0.0)

    def _start(self, parts: list[RowSlice]) -> None:
        now = time.monotonic()
        self.busy += 1
        self._busy_integral -= now
        rounds = deque(joinable(parts))
        calls = {part.call for part in parts}
        work = _Batch(now, rounds, sum(part.rows for part in parts), len(calls))
        for call in calls:
            if call.queued:
                self._queue.began(call)
                self._began += 1
                self.figures.queue_seconds.add(now - call.began_at)
            if call.flight is None:  # a call with many rows may be in several batches
                call.record_in_flight()
            call.on_cancel = work.one_left
        self._advance(work)

    def _advance(self, work: _Batch) -> None:
        """Run rounds until one waits. The next batch starts before the answers are written.

        A round may end, and call this, within `_serve`: the loop below continues, without recursion.
        """
        if work.advancing:
            return
        work.advancing = True
        while not work.waits and (parts := work.next()) is not None:
            work.waits = True
            try:
                self._serve(work, parts)
            except BaseException as error:
                self._served(work, parts, None, error)
        work.advancing = False
        if not work.waits:
            self._finish(work)
        outcomes, work.outcomes = work.outcomes, []
        for part, outcome in outcomes:
            part.whole.answer(part, outcome)

    def _serve(self, work: _Batch, parts: list[RowSlice]) -> None:
        arguments = joined(parts)
        call = parts[0].call
        done = partial(self._served, work, parts)
        if self._stepper is None:
            self._worker.run(partial(call.context().run, self._handler, **arguments), done)
            return
        task = self._stepper.start(self._handler(**arguments), call.context(), done)
        work.stop = task.cancel if task is not None else None

    def _served(self, work: _Batch, parts: list[RowSlice], value: Any, error: BaseException | None) -> None:
        """A round has ended. Never raises."""
        try:
            outcomes, again = self._outcomes(parts, value, error)
        except BaseException as unfit:  # raised by the value's or the error's own methods
            outcomes, again = [(part, unfit) for part in parts], []
        work.waits, work.stop = False, None
        work.outcomes += outcomes
        work.rounds.extendleft(again)
        self._advance(work)

    def _finish(self, work: _Batch) -> None:
        now = time.monotonic()
        took_s = now - work.began_at
        self.busy -= 1
        self.released += 1
        self._busy_integral += now
        shared_by = self._shared_by
        if self.busy >= self.slots:
            self._checkpoint(now)
        self.cost = service_time.learn_batch(self.cost, work.rows, took_s)
        self._learn(took_s)
        self.figures.batched(work.rows, took_s, shared_by)
        self._decide()

    def _outcomes(
        self, parts: list[RowSlice], value: Any, error: BaseException | None
    ) -> tuple[list[tuple[RowSlice, Any]], list[list[RowSlice]]]:
        """The outcome of each part, and the rounds to repeat."""
        if isinstance(error, ItemError) and not error.dependency:
            return _after_item_error(parts, error)
        if error is not None:
            return [(part, error) for part in parts], []
        rows = sum(part.rows for part in parts)
        count = _count(value)
        if count != rows:
            answered = f"a {type(value).__name__}" if count is None else f"{count} results"
            return [(part, self._wrong_count(answered, rows)) for part in parts], []
        outcomes: list[tuple[RowSlice, Any]] = []
        at = 0
        for part in parts:
            outcomes.append((part, value[at : at + part.rows]))
            at += part.rows
        return outcomes, []

    def _wrong_count(self, answered: str, rows: int) -> BadAnswer:
        return BadAnswer(
            f"`{self.name}` answered {answered} to a batch of {rows} rows.",
            hint="Return a list with one result for each row, in order.",
        )


def _count(value: Any) -> int | None:
    """The number of results; None for a value that is not a sequence, such as a number or a 0-d array."""
    if not isinstance(value, Sequence) and not hasattr(value, "__array__"):
        return None
    try:
        return len(value)
    except TypeError:
        return None


def _after_item_error(
    parts: list[RowSlice], error: ItemError
) -> tuple[list[tuple[RowSlice, Any]], list[list[RowSlice]]]:
    """The part with the bad row fails, the others are repeated: together, or one by one if the row is unknown."""
    if len(parts) == 1:
        return [(parts[0], parts[0].with_caller_row(error, error.index))], []
    if error.index is None or not 0 <= error.index < sum(part.rows for part in parts):
        return [], [[part] for part in reversed(parts)]
    at = error.index
    for part in parts:
        if at < part.rows:
            return [(part, part.with_caller_row(error, at))], [[other for other in parts if other is not part]]
        at -= part.rows
    raise AssertionError("the index is within the rows")
