"""The reasons that waiting callers get about the replicas that they wait for."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from tests.replicas import replica_status, route_to

from kaon.agent.act.waking import HOPELESS_S, OPEN_AGAIN_S, HeldRoute, Waking, refusal, waiting_reason
from kaon.clock import FakeClock
from kaon.edge.heads import Head
from kaon.edge.layout import Layout
from kaon.errors import Forbidden, KaonError, Unauthenticated
from kaon.types.key import Access, Grant, key_hash
from kaon.types.plan import Plan
from kaon.types.replica import Phase, ReplicaStatus
from kaon.types.route import ORIGIN_ALLOWED

KEY = ("default", "shop")
NOW = 1000.0


def replica(phase: Phase, **fields: Any) -> ReplicaStatus:
    return replica_status("0" * 12, phase, **{"since": NOW - 5, **fields})


def refusal_cause(*replicas: ReplicaStatus, public: bool = False) -> str | None:
    error = refusal(KEY, replicas, waiting_reason(replicas, public=public), NOW)
    return error.cause if error else None


CRASHED = replica(Phase.CRASHED, restarts=2, exit_code=3, reason="It ended with exit code 3: secret line")
UNFIT = replica(Phase.CONFIG_ERROR, reason="The setting TOKEN is missing.\nmore")


def test_a_crash_loop_is_told_without_what_the_service_wrote() -> None:
    assert refusal_cause(CRASHED) == "The service ends at its start with exit code 3, 3 times."


def test_a_service_that_cannot_start_as_configured_is_told_why_but_not_in_public() -> None:
    assert refusal_cause(UNFIT) == "The service cannot start as configured: The setting TOKEN is missing."
    assert refusal_cause(UNFIT, public=True) == "The service cannot start as configured."


@pytest.mark.parametrize(
    "replicas",
    [
        (),
        (replica(Phase.LOADING),),
        (replica(Phase.CRASHED, restarts=1),),
        (replica(Phase.NO_CAPACITY, restarts=9),),
        (CRASHED, replica(Phase.STARTING)),
        (UNFIT.model_copy(update={"since": NOW - HOPELESS_S / 2}),),
    ],
)
def test_as_long_as_a_replica_may_come_callers_wait(replicas: tuple[ReplicaStatus, ...]) -> None:
    assert refusal_cause(*replicas) is None


def test_what_they_wait_for_is_said_when_their_time_is_over() -> None:
    assert waiting_reason([replica(Phase.LOADING)], public=True) == "A replica is loading."
    assert waiting_reason([replica(Phase.NO_CAPACITY)], public=True) == "The cloud has no capacity for another replica."
    assert waiting_reason([], public=False) == ""


def head(path: bytes = b"/", **fields: bytes) -> Head:
    return Head(b"GET", path, {name.encode(): value for name, value in fields.items()})


def test_the_door_is_the_replicas_own() -> None:
    access = Access(grants=(Grant(hash=key_hash("good"), key="k", expires_at=NOW + 1),))
    clock = FakeClock(NOW)
    route = HeldRoute(access, clock)
    assert route.admit(head(authorization=b"Bearer good")) is None
    for refused in (head(), head(authorization=b"Bearer bad"), head(authorization=b"Basic good")):
        with pytest.raises(Unauthenticated):
            route.admit(refused)
    assert HeldRoute(Access(public=True), clock).admit(head()) is None


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, None),
        ({"origin": b"http://shop.localhost"}, None),
        ({"origin": b"https://app.example", ORIGIN_ALLOWED: b"1"}, None),
        ({"origin": b"https://app.example"}, Forbidden),
        ({"sec-websocket-protocol": b"kaon, kaon.key.bad"}, Unauthenticated),
        ({"upgrade": b"h2c"}, Unauthenticated),
    ],
    ids=str,
)
def test_a_browsers_websocket_waits_when_its_key_and_its_origin_are_good(
    fields: dict[str, bytes], error: type[KaonError] | None
) -> None:
    good = {"upgrade": b"WebSocket", "host": b"shop.localhost", "sec-websocket-protocol": b"kaon, kaon.key.good"}
    route = HeldRoute(Access(grants=(Grant(hash=key_hash("good"), key="k"),)), FakeClock(NOW))
    with pytest.raises(error) if error else nullcontext():
        assert route.admit(head(**{**good, **fields})) is None


def test_the_docs_page_is_answered_without_waking_anything() -> None:
    answer = HeldRoute(Access(), FakeClock(NOW)).admit(head(b"/docs"))
    assert answer is not None
    assert answer.status == 200
    assert b"<html" in answer.body.lower()


async def test_a_socket_that_could_not_be_opened_is_opened_again_without_a_new_plan(tmp_path: Path) -> None:
    clock = FakeClock()
    layout = Layout(tmp_path / "edge", tmp_path / "run" / "admin.sock", tmp_path / "run" / "edge.lock")
    waking = Waking(layout, clock)
    (tmp_path / "run").write_text("in the way")
    wanted = Plan(cloud="local", routes=(route_to(hold_s=60),))
    await waking.follow(wanted)
    (tmp_path / "run").unlink()
    await waking.follow(wanted)
    assert not layout.activator(*KEY).exists(), "it rests for a while"
    await clock.advance(OPEN_AGAIN_S)
    await waking.follow(wanted)
    assert layout.activator(*KEY).is_socket()
    inode = layout.activator(*KEY).stat().st_ino
    await clock.advance(2 * OPEN_AGAIN_S)
    await waking.follow(wanted)
    assert layout.activator(*KEY).stat().st_ino == inode, "once is enough"
