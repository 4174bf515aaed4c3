from __future__ import annotations

from contextlib import ExitStack

import pytest

from kaon.api.stream_limits import MOST, StreamLimits
from kaon.errors import TooManyRequests


def test_a_key_has_so_many_open_and_takes_no_other_keys_places() -> None:
    limits = StreamLimits()
    with ExitStack() as stack:
        for _ in range(MOST):
            stack.enter_context(limits.open("a"))
        with pytest.raises(TooManyRequests), limits.open("a"):
            pass
        with limits.open("b"):
            pass
    with ExitStack() as stack:
        for _ in range(MOST):
            stack.enter_context(limits.open("a"))
