"""A twin with given results, for tests of its callers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from kaon.errors import Unavailable
from kaon.laws.tune.ask import TwinQuery, TwinResult

ScriptedResult = TwinResult | Callable[[TwinQuery], TwinResult]


class FakeTwin:
    """Returns `answers` in turn, then the last one forever; without any it is unavailable. Queries are in `asked`.

    An answer may be a function of the query.
    """

    def __init__(self, answers: Iterable[ScriptedResult] = ()) -> None:
        self.answers = deque(answers)
        self.asked: list[TwinQuery] = []

    def missing(self) -> str:
        """Empty: `ask` reports it."""
        return ""

    async def ask(self, ask: TwinQuery) -> TwinResult:
        """The next answer. Raises `Unavailable` when there is none."""
        self.asked.append(ask)
        if not self.answers:
            raise Unavailable("There is no simulator here.", hint="pip install 'kaon[sim]'")
        result = self.answers.popleft() if len(self.answers) > 1 else self.answers[0]
        return result(ask) if callable(result) else result
