"""When an agent fetches secrets: at each start, but for a standby replica only when they have changed."""

from __future__ import annotations

from typing import Any

import pytest
from tests.replicas import replica_spec

from kaon.agent.act.secrets import Secrets
from kaon.errors import Unavailable
from kaon.types.replica import ReplicaSpec


class Control:
    """Answers with the number of requests so far, while it is reachable."""

    def __init__(self) -> None:
        self.asked, self.away = 0, False

    async def secrets(self, replica: str) -> dict[str, str]:
        if self.away:
            raise Unavailable("It is away.")
        self.asked += 1
        return {"TOKEN": f"value-{self.asked}"}


def spec(version: str = "", names: tuple[str, ...] = ("TOKEN",)) -> ReplicaSpec:
    return replica_spec(id="0" * 12, secrets=names, secrets_version=version)


def made() -> tuple[Secrets, Any]:
    control: Any = Control()
    return Secrets(control), control


async def test_each_start_gets_fresh_ones() -> None:
    cached, _ = made()
    assert [await cached.of(spec()), await cached.of(spec())] == [{"TOKEN": "value-1"}, {"TOKEN": "value-2"}]


async def test_a_replica_that_stands_by_gets_those_that_were_fetched_ahead_until_they_change() -> None:
    cached, control = made()
    assert cached.lacks(spec("7"))
    assert await cached.of(spec("7")) == await cached.of(spec("7")) == {"TOKEN": "value-1"}
    assert not cached.lacks(spec("7"))
    assert cached.lacks(spec("8"))
    assert await cached.of(spec("8")) == {"TOKEN": "value-2"}
    assert control.asked == 2


async def test_while_the_control_plane_is_away_the_last_ones_do() -> None:
    cached, control = made()
    control.away = True
    with pytest.raises(Unavailable):
        await cached.of(spec())
    control.away = False
    await cached.of(spec())
    control.away = True
    assert await cached.of(spec("9")) == {"TOKEN": "value-1"}
    assert cached.lacks(spec("9"))


async def test_a_replica_without_secrets_asks_for_none_and_one_that_is_gone_is_forgotten() -> None:
    cached, control = made()
    assert await cached.of(spec(names=())) == {}
    assert not cached.lacks(spec(names=()))
    assert control.asked == 0
    await cached.of(spec("1"))
    cached.keep(())
    assert cached.lacks(spec("1"))
