"""How long to wait after the n-th failure in a row."""

from __future__ import annotations

from pydantic import Field

from kaon.types.model import Model


class Backoff(Model):
    """Waits that grow by `factor` from `first_s` to `cap_s`."""

    first_s: float = Field(default=1.0, gt=0)
    cap_s: float = Field(default=60.0, gt=0)
    factor: float = Field(default=2.0, ge=1)
    spread: float = Field(default=0.2, ge=0, lt=1, description="Share of a wait that jitter may take off.")


def delay_s(backoff: Backoff, failures: int, jitter: float = 0.0) -> float:
    """Seconds to wait after `failures` failures in a row; 0 after none.

    `jitter` in [0, 1) is drawn by the caller, so that callers that failed together do not come back together:
    with a spread of 0.2 the fourth wait of 1 s doubling is 8 s at jitter 0 and 7.2 s at jitter 0.5.
    """
    if failures <= 0:
        return 0.0
    wait = backoff.first_s
    for _ in range(failures - 1):
        wait *= backoff.factor
        if wait >= backoff.cap_s:  # also keeps the number finite after many failures
            break
    return min(wait, backoff.cap_s) * (1 - backoff.spread * jitter)
