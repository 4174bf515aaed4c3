import math

import numpy as np
import pytest

from kaon.errors import InvalidInput
from kaon.types.wire import json_of


@pytest.mark.parametrize("value", [math.nan, [math.inf], {"a": -math.inf}, np.array([math.nan])])
def test_an_argument_that_json_cannot_say_is_refused_before_it_is_sent(value: object) -> None:
    with pytest.raises(InvalidInput, match="NaN or infinity"):
        json_of({"value": value})


def test_a_text_may_say_nan() -> None:
    assert json_of({"value": "NaN, Infinity"}) == b'{"value":"NaN, Infinity"}'
