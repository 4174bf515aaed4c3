"""Which requests are refused after crashes."""

from hypothesis import given
from hypothesis import strategies as st

from kaon.agent.decide.poison import CRASHES, REFUSED_S, SUSPECTS_MOST, Poison, follow, refused
from kaon.drivers.port import ReplicaObservation, Stage
from kaon.types.refusals import MOST

SHOP, BANK = ("default", "shop"), ("default", "bank")
OWNERS = {"a": SHOP, "b": SHOP, "c": BANK}


def crash(replica: str, pid: int, *blamed: str) -> dict[str, ReplicaObservation]:
    return {replica: ReplicaObservation(id=replica, stage=Stage.EXITED, pid=pid, exit_code=-11, blamed=blamed)}


def test_one_crash_proves_nothing_and_the_second_one_does() -> None:
    memory = follow(Poison(), crash("a", 1, "bad", "good"), OWNERS, 0.0)
    assert refused(memory, 0.0) == {}
    memory = follow(memory, crash("b", 2, "bad", "other"), OWNERS, 1.0)
    assert refused(memory, 1.0) == {SHOP: ("bad",)}


def test_a_crash_that_is_seen_for_long_counts_once() -> None:
    memory = Poison()
    for at in range(5):
        memory = follow(memory, crash("a", 1, "bad"), OWNERS, float(at))
    assert refused(memory, 5.0) == {}
    memory = follow(memory, crash("a", 2, "bad"), OWNERS, 6.0)
    assert refused(memory, 6.0) == {SHOP: ("bad",)}


def test_it_is_refused_for_a_while_and_a_single_crash_is_forgotten() -> None:
    memory = follow(Poison(), crash("a", 1, "bad"), OWNERS, 0.0)
    memory = follow(memory, crash("a", 2, "bad"), OWNERS, 10.0)
    memory = follow(memory, crash("b", 3, "once"), OWNERS, 10.0)
    assert refused(follow(memory, {}, OWNERS, 9.9 + REFUSED_S), 9.9 + REFUSED_S) == {SHOP: ("bad",)}
    later = follow(memory, crash("b", 4, "once", "bad"), OWNERS, 10.0 + REFUSED_S)
    assert refused(later, 10.0 + REFUSED_S) == {}


def test_deployments_have_nothing_to_do_with_each_other() -> None:
    memory = follow(Poison(), crash("a", 1, "bad"), OWNERS, 0.0)
    memory = follow(memory, crash("c", 2, "bad"), OWNERS, 0.0)
    assert refused(memory, 0.0) == {}


@given(st.lists(st.lists(st.integers(0, 3000), min_size=1, max_size=60), max_size=12), st.integers(0, 3000))
def test_exactly_those_are_refused_that_were_in_flight_at_two_crashes(crashes: list[list[int]], poison: int) -> None:
    memory = Poison()
    for pid, ids in enumerate(crashes):
        memory = follow(memory, crash("a", pid, *map(str, ids)), OWNERS, float(pid))
    counts = {id_: sum(id_ in ids for ids in crashes) for ids in crashes for id_ in ids}
    expected = tuple(sorted(str(id_) for id_, count in counts.items() if count >= CRASHES))
    assert refused(memory, float(len(crashes))) == ({SHOP: expected} if expected else {})


def test_what_is_remembered_is_bounded_and_what_is_proven_stays() -> None:
    memory = follow(Poison(), crash("a", 1, "bad"), OWNERS, 0.0)
    memory = follow(memory, crash("a", 2, "bad"), OWNERS, 0.0)
    for pid in range(3, 9):
        memory = follow(memory, crash("a", pid, *(f"{pid}-{n}" for n in range(4000))), OWNERS, 1.0)
    assert len(memory.suspects) == SUSPECTS_MOST
    assert refused(memory, 1.0) == {SHOP: ("bad",)}
    for pid in range(9, 11):
        memory = follow(memory, crash("a", pid, *(f"{n}" for n in range(4000))), OWNERS, 2.0)
    assert len(refused(memory, 2.0)[SHOP]) == MOST
