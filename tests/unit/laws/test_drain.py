"""How long a replica may take to finish."""

from hypothesis import given
from hypothesis import strategies as st

from kaon.laws.drain import LEAST_S, MOST_S, drain_s
from kaon.types.service import EndpointSpec, ServiceSpec

LIMITS = st.lists(st.none() | st.floats(0.001, 5000), max_size=6)


def service(limits: list[float | None], mounts: tuple[str, ...] = ()) -> ServiceSpec:
    endpoints = tuple(
        EndpointSpec(name=f"e{number}", method="POST", path=f"/e{number}", timeout_s=limit)
        for number, limit in enumerate(limits)
    )
    return ServiceSpec(name="s", entry="s:S", endpoints=endpoints, mounts=mounts)


@given(LIMITS)
def test_it_is_as_long_as_the_longest_call_within_bounds(limits: list[float | None]) -> None:
    found = drain_s(None, service(limits))
    assert LEAST_S <= found <= MOST_S
    assert all(found >= min(MOST_S if limit is None else limit, MOST_S) for limit in limits)
    assert found in {LEAST_S, MOST_S, *limits}


@given(LIMITS, st.floats(0, 3600))
def test_a_given_time_counts(limits: list[float | None], given_s: float) -> None:
    assert drain_s(given_s, service(limits)) == given_s
    assert drain_s(given_s, None) == given_s


def test_a_mounted_app_may_take_long_and_an_unknown_service_gets_the_least() -> None:
    assert drain_s(None, service([1.0], mounts=("/ui",))) == MOST_S
    assert drain_s(None, service([])) == LEAST_S
    assert drain_s(None, None) == LEAST_S
