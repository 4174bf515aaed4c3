"""A twin that answers what it is told to: for tests of those who ask."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from kaon.errors import Unavailable
from kaon.laws.tune.ask import TwinQuery, TwinResult

Says = TwinResult | Callable[[TwinQuery], TwinResult]


class FakeTwin:
    """Gives `answers` in turn, the last one for ever; without any it is not there. What it was asked is in `asked`.

    An answer may be a function of the question.
    """

    def __init__(self, answers: Iterable[Says] = ()) -> None:
        self.answers = deque(answers)
        self.asked: list[TwinQuery] = []

    def missing(self) -> str:
        """Empty: whoever asks finds out."""
        return ""

    async def ask(self, ask: TwinQuery) -> TwinResult:
        """The next answer. Raises `Unavailable` when there is none."""
        self.asked.append(ask)
        if not self.answers:
            raise Unavailable("There is no simulator here.", hint="pip install 'kaon[sim]'")
        says = self.answers.popleft() if len(self.answers) > 1 else self.answers[0]
        return says(ask) if callable(says) else says
