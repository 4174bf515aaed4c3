"""Where deployments are placed, and which clouds can be relied on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaon.laws.place import LOST_AFTER_S, CloudState, phase, place
from kaon.types.cloud import CloudPhase

NOW = 10_000.0
PHASES = list(CloudPhase)
NAMES = "abcdef"
some_clouds = st.lists(
    st.builds(CloudState, st.sampled_from(NAMES), st.sampled_from(PHASES), st.floats(0, NOW)),
    unique_by=lambda cloud: cloud.name,
)


def cloud(name: str, phase: CloudPhase = CloudPhase.READY, joined_at: float = 0.0) -> CloudState:
    return CloudState(name, phase, joined_at)


@pytest.mark.parametrize("found", PHASES)
def test_a_deployment_stays_in_its_cloud_whatever_becomes_of_that(found: CloudPhase) -> None:
    others = [cloud("a"), cloud("z")]
    assert place("m", {"a"}, [*others, cloud("m", found, joined_at=NOW)]).cloud == "m"


def test_a_new_deployment_goes_to_the_cloud_that_joined_first_of_those_that_take_it() -> None:
    clouds = [
        cloud("a", joined_at=5),
        cloud("b", joined_at=3),
        cloud("c", CloudPhase.CORDONED, joined_at=1),
        cloud("d", CloudPhase.LOST, joined_at=2),
        cloud("e", CloudPhase.JOINING, joined_at=0),
    ]
    decided = place("", (), clouds)
    assert (decided.cloud, "joined first" in decided.reason) == ("b", True)


def test_where_no_cloud_takes_it_the_reason_names_each() -> None:
    decided = place("", (), [cloud("a", CloudPhase.LOST), cloud("b", CloudPhase.CORDONED)])
    assert decided.cloud == ""
    assert "'a' is Lost" in decided.reason
    assert "'b' is Cordoned" in decided.reason
    assert "none has joined" in place("", (), []).reason


def test_a_deployment_that_is_not_placed_yet_is_placed_where_its_replicas_run() -> None:
    assert place("", {"b"}, [cloud("a", joined_at=1), cloud("b", joined_at=2)]).cloud == "b"


def test_a_deployment_of_a_deleted_cloud_is_placed_in_another_with_the_reason() -> None:
    decided = place("gone", (), [cloud("a")])
    assert decided.cloud == "a"
    assert "'gone' was deleted" in decided.reason


@given(some_clouds, st.permutations(NAMES), st.data())
def test_neither_a_name_nor_an_order_decides(clouds: list[CloudState], names: list[str], data: st.DataObject) -> None:
    other = dict(zip(NAMES, names, strict=True))
    renamed = [CloudState(other[c.name], c.phase, c.joined_at) for c in data.draw(st.permutations(clouds))]
    chosen = place("", (), clouds).cloud
    if len({c.joined_at for c in clouds}) == len(clouds):  # of two that joined in one instant the name has to decide
        assert place("", (), renamed).cloud == (other[chosen] if chosen else "")
    phases = {c.name: c.phase for c in clouds}
    assert chosen == "" or phases[chosen] in (CloudPhase.READY, CloudPhase.JOINING)


def test_a_cloud_is_joining_until_its_agent_reports_and_lost_when_that_falls_silent() -> None:
    def at(now: float, seen_at: float, *, cordoned: bool = False) -> CloudPhase:
        return phase(cordoned=cordoned, seen_at=seen_at, watched_since=0.0, now=now).phase

    assert at(NOW, 0) is CloudPhase.JOINING
    assert at(NOW, NOW - LOST_AFTER_S + 1) is CloudPhase.READY
    assert at(NOW, NOW - LOST_AFTER_S + 1, cordoned=True) is CloudPhase.CORDONED
    assert at(NOW, NOW - LOST_AFTER_S) is CloudPhase.LOST
    assert at(NOW, NOW - LOST_AFTER_S, cordoned=True) is CloudPhase.LOST


def test_silence_while_the_control_plane_was_away_does_not_count() -> None:
    decided = phase(cordoned=False, seen_at=1.0, watched_since=NOW - 1, now=NOW)
    assert (decided.phase, decided.changes_at) == (CloudPhase.READY, NOW - 1 + LOST_AFTER_S)
