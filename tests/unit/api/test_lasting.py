from __future__ import annotations

from contextlib import ExitStack

import pytest

from kaon.api.stream_limits import MOST, StreamLimits
from kaon.errors import TooManyRequests


def test_a_key_has_so_many_open_and_takes_no_other_keys_places() -> None:
    lasting = StreamLimits()
    with ExitStack() as stack:
        for _ in range(MOST):
            stack.enter_context(lasting.one("a"))
        with pytest.raises(TooManyRequests), lasting.one("a"):
            pass
        with lasting.one("b"):
            pass
    with lasting.one("a"):
        assert lasting._open == {"a": 1}
    assert not lasting._open
