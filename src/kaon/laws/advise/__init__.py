"""Possible improvements of a deployment, from its figures: findings with evidence, gain and a command.

Every minute is judged by one rule per finding (`sizing`, `health`, `batching`); its result is None where figures are
missing. A finding becomes active after `FIRM` minutes in a row in which it holds, and ends after as many in which it
does not, so that advice does not flicker. Minutes without figures change nothing. A finding ends at once when its
subject changes, as by its own command.

Learnt over longer times: usual figures (`usual`), the last 24 hours by the hour (`day`), the cost of a batch. All of it
is a value that is computed again from the stored minutes after a restart.

No two active findings contradict each other: see `active`.
"""

from kaon.laws.advise.active import FIRM, adapt, advice, begin, step
from kaon.laws.advise.minute import AdviceMinute, AdviceTerms
from kaon.laws.advise.state import AdviceState

__all__ = ["FIRM", "AdviceMinute", "AdviceState", "AdviceTerms", "adapt", "advice", "begin", "step"]
