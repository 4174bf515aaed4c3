"""Reading what a replica noted of its calls in flight."""

import math

from hypothesis import given
from hypothesis import strategies as st

from kaon.types.flight import FILE_BYTES, ID_LENGTH, SLOT, SLOTS, Flight, flights


def test_free_slots_tell_nothing() -> None:
    content = SLOT.pack(0.0, b"old") + SLOT.pack(105.0, b"one") + SLOT.pack(90.0, b"two")
    assert flights(content, 100.0) == (Flight(request_id="one", left_s=5), Flight(request_id="two", left_s=-10))
    assert flights(b"", 0.0) == ()


@given(st.binary(max_size=500), st.floats(0, 1e9))
def test_whatever_is_in_the_file_is_read_as_calls_that_people_can_read(content: bytes, now: float) -> None:
    for flight in flights(content, now):
        assert math.isfinite(flight.left_s)
        assert flight.left_s <= 86_400
        assert len(flight.request_id) <= ID_LENGTH
        assert all("!" <= letter <= "~" for letter in flight.request_id)


def test_more_than_all_slots_are_not_read() -> None:
    assert len(flights(SLOT.pack(1.0, b"x") * (SLOTS + 5), 0.0)) == SLOTS
    assert SLOTS * SLOT.size == FILE_BYTES
