"""What the figures of a deployment say could be better: each finding with evidence, gain and the command that does it.

Every minute is judged by one rule per finding (`sizing`, `health`, `batching`); a rule says nothing (None) where
figures are missing. A finding is told only after it held in `FIRM` minutes on end, and is dropped after as many in
which it did not: advice that flickers is not read. Minutes without figures change nothing. When what a finding is about
is changed, as by its own command, it is dropped at once.

What takes longer than a minute to know is learnt: what is usual (`usual`), the last 24 hours hour by hour (`day`), what
a batch costs. All of it is a value, learnt again from the kept minutes after a restart.

No two findings contradict each other: `standing` says beside which others each is not told.
"""

from kaon.laws.advise.active import FIRM, adapt, advice, begin, step
from kaon.laws.advise.minute import AdviceMinute, AdviceTerms
from kaon.laws.advise.state import AdviceState

__all__ = ["FIRM", "AdviceMinute", "AdviceState", "AdviceTerms", "adapt", "advice", "begin", "step"]
