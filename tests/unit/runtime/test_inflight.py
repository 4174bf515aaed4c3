"""The file of a replica's calls in flight."""

import os
import signal
import time
from pathlib import Path

from kaon.runtime.inflight import NOWHERE, Flights
from kaon.types.flight import ID_LENGTH, SLOTS, flights


def noted(path: Path) -> dict[str, float]:
    return {flight.request_id: flight.left_s for flight in flights(path.read_bytes(), 0.0)}


def test_a_call_is_noted_from_its_begin_to_its_end(tmp_path: Path) -> None:
    notes = Flights(tmp_path / "flights")
    one, two = notes.begin("one", 5.0), notes.begin("two", 6.0)
    assert noted(tmp_path / "flights") == {"one": 5.0, "two": 6.0}
    notes.end(one)
    assert noted(tmp_path / "flights") == {"two": 6.0}
    notes.end(two)
    assert noted(tmp_path / "flights") == {}


def test_a_slot_is_used_again_and_keeps_nothing_of_the_call_before(tmp_path: Path) -> None:
    notes = Flights(tmp_path / "flights")
    notes.end(notes.begin("a-long-request-id", 1.0))
    notes.begin("short", 2.0)
    assert noted(tmp_path / "flights") == {"short": 2.0}


def test_long_and_odd_request_ids_are_cut_and_made_readable(tmp_path: Path) -> None:
    notes = Flights(tmp_path / "flights")
    notes.begin("x" * 200, 1.0)
    notes.begin("\x00\xff", 1.0)
    assert set(noted(tmp_path / "flights")) == {"x" * ID_LENGTH, "???"}


def test_calls_beyond_the_slots_are_served_and_not_noted(tmp_path: Path) -> None:
    notes = Flights(tmp_path / "flights")
    slots = [notes.begin(str(number), 1.0) for number in range(SLOTS + 1)]
    assert slots[-1] is None
    assert len(noted(tmp_path / "flights")) == SLOTS
    for slot in slots:
        notes.end(slot)
    assert noted(tmp_path / "flights") == {}
    assert NOWHERE.begin("any", 1.0) is None


def test_a_new_file_leaves_an_older_one_to_those_who_have_it(tmp_path: Path) -> None:
    before = Flights(tmp_path / "flights")
    after = Flights(tmp_path / "flights")
    before.begin("old", 1.0)
    after.begin("new", 1.0)
    assert noted(tmp_path / "flights") == {"new": 1.0}


def test_notes_outlive_a_process_that_is_killed(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        Flights(tmp_path / "flights").begin("last", time.monotonic())
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert list(noted(tmp_path / "flights")) == ["last"]
