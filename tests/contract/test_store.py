"""What every store keeps to: in memory, SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select, text, update
from tests.samples import full
from tests.waiting import turns

from kaon.clock import FakeClock
from kaon.errors import Conflict, NotFound, StaleEpoch, UnreadableRow
from kaon.laws.retention import Keep
from kaon.store import open_store
from kaon.store.database import connect
from kaon.store.epoch import under_epoch
from kaon.store.port import AnyResource, AuditQuery, AuditRetention, Change, Store
from kaon.store.schema import events, journal, resources, traffic
from kaon.store.writes import (
    Create,
    Delete,
    KeepJournal,
    KeepTraffic,
    RecordAudit,
    RecordEvents,
    UpdateSpec,
    UpdateStatus,
    Write,
)
from kaon.types.audit import AuditRecord
from kaon.types.deployment import DeploymentSpec, Template
from kaon.types.event import Event, EventLevel
from kaon.types.journal import JournalEntry
from kaon.types.key import KeySpec, KeyStatus, Role
from kaon.types.kinds import KINDS
from kaon.types.resource import Unreadable
from kaon.types.traffic import ColdStart, Sample
from kaon.types.workspace import WorkspaceSpec


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    match request.param:
        case "memory":
            return "memory://"
        case "sqlite":
            return f"sqlite:///{tmp_path / 'server' / 'kaon.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def store(url: str, clock: FakeClock) -> AsyncIterator[Store]:
    store = open_store(url, clock)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def sibling(store: Store, url: str) -> AsyncIterator[Store]:
    """The same database, opened a second time as another process would."""
    if url.startswith("memory"):
        pytest.skip("memory is not shared")
    sibling = open_store(url)
    await sibling.open()
    yield sibling
    await sibling.close()


A_DEPLOYMENT = DeploymentSpec(template=Template(artifact=f"sha256:{'0' * 64}"))


def spec(text: str = "") -> WorkspaceSpec:
    return WorkspaceSpec(description=text)


async def next_changes(changes: AsyncIterator[object]) -> list[Change]:
    group = await asyncio.wait_for(anext(changes), 5)
    assert isinstance(group, list)
    return group


async def test_what_was_created_is_read_again(store: Store, clock: FakeClock) -> None:
    made = await store.create("workspace", "", "team", spec("für alle 中文 \u0000"))
    assert made == await store.get("workspace", "", "team")
    assert made == await store.find("workspace", "", "team")
    assert made.generation == 1
    assert made.created_at == made.updated_at == clock.now()
    assert made.version == await store.version()


async def test_what_is_not_there_is_not_found(store: Store) -> None:
    assert await store.find("workspace", "", "nobody") is None
    with pytest.raises(NotFound):
        await store.get("workspace", "", "nobody")


async def test_a_name_is_taken_once_in_a_workspace_and_a_kind(store: Store) -> None:
    await store.create("workspace", "", "team", spec())
    await store.create("workspace", "other", "team", spec())
    with pytest.raises(Conflict):
        await store.create("workspace", "", "team", spec())


async def test_a_spec_of_another_kind_is_refused(store: Store) -> None:
    made = await store.create("workspace", "", "team", spec())
    with pytest.raises(ValueError, match="KeySpec"):
        await store.create("key", "", "team", spec())
    with pytest.raises(ValueError, match="WorkspaceSpec"):
        await store.update_spec(made, KeyStatus())


async def test_a_spec_moves_the_generation_and_a_status_does_not(store: Store) -> None:
    key = await store.create("key", "default", "mine", KeySpec(hash="0" * 64, hint="k", role=Role.VIEWER))
    told = await store.update_status(key, KeyStatus(revoked_at=5))
    assert (told.generation, told.status.revoked_at) == (1, 5)
    written = await store.update_spec(told, key.spec.model_copy(update={"hint": "j"}))
    assert (written.generation, written.status.revoked_at) == (2, 5)
    assert key.version < told.version < written.version
    assert written == await store.get("key", "default", "mine")


async def test_a_write_based_on_an_old_version_is_a_conflict(store: Store) -> None:
    old = await store.create("workspace", "", "team", spec())
    new = await store.update_spec(old, spec("new"))
    with pytest.raises(Conflict):
        await store.update_spec(old, spec("newer"))
    with pytest.raises(Conflict):
        await store.delete(old)
    assert await store.get("workspace", "", "team") == new


async def test_an_equal_write_changes_nothing_and_is_no_conflict(store: Store) -> None:
    old = await store.create("workspace", "", "team", spec())
    new = await store.update_spec(old, spec("new"))
    version = await store.version()
    assert await store.update_spec(old, spec("new")) == new
    assert await store.update_status(old, old.status) == new
    assert await store.version() == version


async def test_a_name_used_again_is_another_resource(store: Store) -> None:
    first = await store.create("workspace", "", "team", spec())
    await store.delete(first)
    with pytest.raises(NotFound):
        await store.update_spec(first, spec("late"))
    with pytest.raises(NotFound):
        await store.delete(first)
    second = await store.create("workspace", "", "team", spec())
    assert second.uid != first.uid
    assert second.version > first.version
    with pytest.raises(Conflict):
        await store.update_spec(first, second.spec)


async def test_lists_are_of_one_kind_by_workspace_and_name(store: Store) -> None:
    for workspace, name in (("b", "y"), ("a", "z"), ("b", "x-1"), ("b", "x")):
        await store.create("workspace", workspace, name, spec())
    gone = await store.create("workspace", "a", "gone", spec())
    await store.delete(gone)
    await store.create("key", "a", "k", KeySpec(hash="0" * 64, hint="k", role=Role.VIEWER))
    found = [(r.workspace, r.name) for r in await store.list_all("workspace")]
    assert found == [("a", "z"), ("b", "x"), ("b", "x-1"), ("b", "y")]
    assert [r.name for r in await store.list_all("workspace", "b")] == ["x", "x-1", "y"]


async def count_up(store: Store, times: int, who: str) -> None:
    """Add one, `times` times. Who wrote is part of it: equal writes would be no conflict."""
    for _ in range(times):
        while True:
            current = await store.get("workspace", "", "counter")
            try:
                await store.update_spec(current, spec(f"{int(current.spec.description.split()[0]) + 1} by {who}"))
                break
            except Conflict:
                continue


async def test_of_writers_at_once_none_overwrites_another(store: Store) -> None:
    await store.create("workspace", "", "counter", spec("0"))
    await asyncio.gather(*(count_up(store, 10, f"writer {i}") for i in range(6)))
    final = await store.get("workspace", "", "counter")
    assert (final.spec.description.split()[0], final.generation) == ("60", 61)


async def test_writers_of_two_processes_do_not_overwrite_each_other(store: Store, sibling: Store) -> None:
    await store.create("workspace", "", "counter", spec("0"))
    await asyncio.gather(count_up(store, 15, "one"), count_up(sibling, 15, "other"))
    assert (await sibling.get("workspace", "", "counter")).spec.description.split()[0] == "30"


async def test_a_refused_write_takes_none_of_its_neighbours(store: Store) -> None:
    await store.create("workspace", "", "n5", spec())
    writes = (store.create("workspace", "", f"n{i}", spec()) for i in range(10))
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert [i for i, outcome in enumerate(outcomes) if isinstance(outcome, Conflict)] == [5]
    assert len(await store.list_all("workspace")) == 10


async def test_a_watcher_is_told_everything_after_its_version(store: Store) -> None:
    before = await store.create("workspace", "", "before", spec())
    made = await store.create("workspace", "", "made", spec())
    gone = await store.create("workspace", "", "gone", spec())
    await store.delete(gone)
    watching = store.watch(before.version)
    first, last = await next_changes(watching)
    assert first == Change(version=made.version, kind="workspace", workspace="", name="made")
    assert (last.name, last.deleted, last.version) == ("gone", True, await store.version())
    await watching.aclose()  # type: ignore[attr-defined]


async def test_changes_carry_the_resources(store: Store) -> None:
    first = await store.create("workspace", "", "first", spec())
    second = await store.create("workspace", "", "second", spec())
    gone = await store.create("workspace", "", "gone", spec())
    changed = await store.update_spec(first, spec("changed"))
    await store.delete(gone)
    changes = await store.changes(0)
    assert [(c.name, c.resource) for c in changes] == [("second", second), ("first", changed), ("gone", None)]
    assert store.written == changes[-1].version == await store.version()
    assert [c.name for c in await store.changes(changed.version)] == ["gone"]
    assert await store.changes(store.written) == []


async def test_changes_of_another_process_carry_the_resources(store: Store, sibling: Store) -> None:
    watching = store.watch(0)
    waiting = asyncio.ensure_future(next_changes(watching))
    theirs = await sibling.create("workspace", "", "theirs", spec())
    assert [change.resource for change in await waiting] == [theirs]
    ours = await store.update_spec(theirs, spec("ours"))
    assert [change.resource for change in await next_changes(watching)] == [ours]
    await watching.aclose()  # type: ignore[attr-defined]
    assert (store.written, sibling.written) == (ours.version, theirs.version)


async def test_a_watcher_is_woken_by_a_write_and_not_by_an_equal_one(store: Store) -> None:
    made = await store.create("workspace", "", "team", spec())
    watching = store.watch(made.version)
    waiting = asyncio.ensure_future(next_changes(watching))
    await turns()
    await store.update_spec(made, made.spec)
    written = await store.update_spec(made, spec("new"))
    assert [change.version for change in await waiting] == [written.version]
    await watching.aclose()  # type: ignore[attr-defined]


async def test_a_watcher_sees_what_another_process_writes(store: Store, sibling: Store) -> None:
    watching = store.watch(await store.version())
    waiting = asyncio.ensure_future(next_changes(watching))
    await sibling.create("workspace", "", "theirs", spec())
    assert [change.name for change in await waiting] == ["theirs"]
    await watching.aclose()  # type: ignore[attr-defined]


async def test_watchers_miss_nothing_while_two_processes_write(store: Store, sibling: Store) -> None:
    """Versions become visible in the order of their numbers, so nobody passes one that comes late."""
    told: set[str] = set()

    async def follow() -> None:
        async for changes in store.watch(0):
            told.update(change.name for change in changes)
            if len(told) == 200:
                return

    def make(to: Store, name: str) -> asyncio.Future[AnyResource]:
        return asyncio.ensure_future(to.create("workspace", "", name, spec()))

    following = asyncio.ensure_future(follow())
    names = [(to, f"{to is store}-{i}") for i in range(100) for to in (store, sibling)]
    await asyncio.gather(*(make(to, name) for to, name in names))
    await following
    assert told == {name for _, name in names}


async def test_what_was_written_is_there_after_a_restart(url: str) -> None:
    if url.startswith("memory"):
        pytest.skip("memory forgets")
    store = open_store(url)
    await store.open()
    made = await store.create("workspace", "", "team", spec())
    accepted = asyncio.ensure_future(store.create("workspace", "", "last", spec()))
    await turns(1)  # taken, and not written yet
    await store.close()
    await accepted
    store = open_store(url)
    await store.open()
    assert await store.get("workspace", "", "team") == made
    assert (await store.create("workspace", "", "next", spec())).version == made.version + 2
    await store.close()


def happened(name: str, workspace: str = "default", kind: str = "deployment") -> Event:
    return Event(
        at=1.5, workspace=workspace, kind=kind, name=name, level=EventLevel.WARNING, reason="Fell", message="ü"
    )


async def test_events_come_back_oldest_first_and_by_what_they_are_about(store: Store) -> None:
    await store.record([happened("a"), happened("b"), happened("a", kind="key")])
    await store.record([happened("a"), happened("a", workspace="other")])
    await store.record([])
    assert [(e.name, e.kind) for e in await store.events("default")] == [
        ("a", "deployment"),
        ("b", "deployment"),
        ("a", "key"),
        ("a", "deployment"),
    ]
    assert len(await store.events("default", "deployment", "a")) == 2
    (newest,) = await store.events("default", limit=1)
    assert newest.id > 0
    assert newest.model_copy(update={"id": 0}) == happened("a")
    assert await store.events("default", limit=0) == []
    assert await store.events("nobody") == []


async def test_events_have_ids_that_grow_and_are_never_given_again(store: Store) -> None:
    await store.create("workspace", "", "team", WorkspaceSpec())
    await store.record([happened("a"), happened("b", workspace="team").model_copy(update={"at": 1e12})])
    (first,), (last,) = await store.events("default"), await store.events("team")
    assert first.id < last.id
    await store.delete(await store.get("workspace", "", "team"))
    await store.record([happened("c"), happened("d")])
    later = await store.events("default", after=first.id)
    assert [event.name for event in later] == ["c", "d"]
    assert last.id < later[0].id < later[1].id
    assert await store.events("default", after=first.id, limit=1) == later[:1]
    assert await store.events("default", after=later[1].id) == []
    assert await store.events("default", "deployment", "d", after=0) == later[1:]


async def test_a_workspace_keeps_its_newest_ten_thousand_events(store: Store) -> None:
    await store.record([happened("quiet", workspace="other")])
    for block in range(103):
        await store.record([happened(f"e{block * 100 + i}") for i in range(100)])
    kept = await store.events("default", limit=20_000)
    assert len(kept) == 10_000
    assert (kept[0].name, kept[-1].name) == ("e300", "e10299")
    assert len(await store.events("other")) == 1


def minute(at_s: float, deployment: str = "shop", revision: int = 1, arrivals: int | None = 1) -> Sample:
    starts = (ColdStart(replica="0123456789ab", install_s=1.5),)
    return Sample(
        workspace="default",
        deployment=deployment,
        revision=revision,
        at_s=at_s,
        span_s=60,
        arrivals=arrivals,
        codes={"2xx": 3, "none": 1},
        latency={4: 3},
        starts=starts,
    )


async def test_minutes_of_traffic_come_back_in_order_and_a_later_one_takes_an_earliers_place(
    store: Store, clock: FakeClock
) -> None:
    now = clock.now()
    await store.keep_traffic([minute(now + 60), minute(now, revision=2), minute(now), minute(now, "other")])
    await store.keep_traffic([minute(now, arrivals=None), minute(now, arrivals=7)])
    await store.keep_traffic([])
    assert await store.traffic("default", "shop", 0) == [
        minute(now, arrivals=7),
        minute(now, revision=2),
        minute(now + 60),
    ]
    assert await store.traffic("default", "shop", now) == [minute(now + 60)]
    assert await store.traffic("other", "shop", 0) == []


async def test_minutes_are_kept_for_a_week(store: Store, clock: FakeClock) -> None:
    old, last = clock.now(), clock.now() + 60
    await store.keep_traffic([minute(old), minute(last)])
    clock.jump(7 * 86_400)
    await store.keep_traffic([minute(clock.now(), "other")])
    assert await store.traffic("default", "shop", 0) == [minute(last)]


def decided(after: str, deployment: str = "shop", concern: str = "scaling", workspace: str = "default") -> JournalEntry:
    return JournalEntry(
        at=1.5,
        workspace=workspace,
        deployment=deployment,
        concern=concern,
        before="1",
        after=after,
        reason="Weil 中 \u0000",
        figures={"rps": 1.5, "known": None},
    )


async def test_decisions_come_back_oldest_first_and_by_what_they_are_about(store: Store) -> None:
    await store.keep_journal([decided("2"), decided("canary", concern="rollout"), decided("3")])
    await store.keep_journal([decided("9", deployment="other"), decided("9", workspace="other")])
    await store.keep_journal([])
    assert [e.after for e in await store.journal("default", "shop")] == ["2", "canary", "3"]
    assert await store.journal("default", "shop", "scaling") == [decided("2"), decided("3")]
    assert await store.journal("default", "shop", limit=1) == [decided("3")]
    assert await store.journal("default", "shop", limit=0) == []
    assert await store.journal("default", "nobody") == []


async def test_a_deployment_keeps_its_newest_thousand_decisions(store: Store) -> None:
    await store.keep_journal([decided("0", deployment="quiet")])
    for block in range(11):
        await store.keep_journal([decided(str(block * 100 + i)) for i in range(100)])
    kept = await store.journal("default", "shop", limit=5_000)
    assert len(kept) == 1_000
    assert (kept[0].after, kept[-1].after) == ("100", "1099")
    assert len(await store.journal("default", "quiet")) == 1


async def test_what_one_concern_has_to_say_pushes_out_nothing_of_another(store: Store) -> None:
    await store.keep_journal([decided("first"), decided("canary", concern="rollout")])
    for _ in range(11):
        await store.keep_journal([decided("tried", concern="tuning") for _ in range(100)])
    assert [e.after for e in await store.journal("default", "shop", "scaling")] == ["first"]
    assert len(await store.journal("default", "shop", "tuning", limit=5_000)) == 1_000
    kept = await store.journal("default", "shop", limit=5_000)
    assert [e.after for e in kept[:3]] == ["first", "canary", "tried"]


async def test_what_is_written_late_of_one_that_is_gone_is_not_kept_under_its_name(store: Store) -> None:
    def entry(uid: str, at: float) -> JournalEntry:
        whose = {"workspace": "default", "deployment": "shop", "uid": uid}
        return JournalEntry(at=at, concern="scaling", after=f"of {uid}", reason="why", **whose)

    spec = DeploymentSpec(template=Template(artifact=f"sha256:{'0' * 64}"))
    first = await store.create("deployment", "default", "shop", spec)
    await store.keep_journal([entry(first.uid, first.created_at)])
    await store.delete(first)
    assert await store.journal("default", "shop") == []
    await store.keep_journal([entry(first.uid, first.created_at + 1)])
    second = await store.create("deployment", "default", "shop", spec)
    for uid, at in ((first.uid, second.created_at + 1), ("", second.created_at - 1), (second.uid, second.created_at)):
        await store.keep_journal([entry(uid, at)])
    assert [e.uid for e in await store.journal("default", "shop")] == [second.uid]


NO_UTF_8 = text("CAST(x'7b2261223a22fffe227d' AS TEXT)")
"""`{"a":"<two bytes that are no UTF-8>"}`, as only SQLite takes it."""

FAULTS = {
    "no JSON": {"spec": "{"},
    "no object": {"spec": "[]"},
    "a wrong type": {"spec": '"text"'},
    "an impossible status": {"status": "7"},
    "nothing": {"spec": "", "status": ""},
    "nesting without end": {"spec": "[" * 5000},
    "no UTF-8": {"spec": NO_UTF_8, "status": NO_UTF_8},
}


def damage(url: str, kind: str, name: str, **columns: object) -> None:
    """Write what no Kaon writes into the row of `kind` and `name`."""
    database = connect(url)
    with database.writes.begin() as connection:
        connection.execute(update(resources).where(resources.c.kind == kind, resources.c.name == name).values(columns))
    database.writes.dispose()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", [kind.name for kind in KINDS.values() if kind.stored])
async def test_a_row_that_cannot_be_read_keeps_no_other_from_being_read(
    store: Store, url: str, kind: str, fault: str
) -> None:
    if url.startswith("memory"):
        pytest.skip("what is in memory was read before")
    if url.startswith("postgresql") and fault == "no UTF-8":
        pytest.skip("PostgreSQL stores no such text")
    spec, status = full(KINDS[kind].spec), full(KINDS[kind].status)
    for name in ("good", "odd", "well"):
        made = await store.create(kind, "default", name, spec, status)
        assert made.spec == spec
    damage(url, kind, "odd", **FAULTS[fault])

    unreadable: list[Unreadable] = []
    assert [r.name for r in await store.list_all(kind, unreadable=unreadable)] == ["good", "well"]
    assert [(u.kind, u.workspace, u.name) for u in unreadable] == [(kind, "default", "odd")]
    assert [r.name for r in await store.list_all(kind, "default")] == ["good", "well"]
    with pytest.raises(UnreadableRow, match=f"The {kind} 'odd' in workspace 'default' is stored") as raised:
        await store.find(kind, "default", "odd")
    assert raised.value.row == unreadable[0]
    assert unreadable[0].reason

    await store.delete(unreadable[0])
    assert await store.find(kind, "default", "odd") is None
    with pytest.raises(NotFound):
        await store.delete(unreadable[0])
    assert (await store.create(kind, "default", "odd", spec)).spec == spec
    with pytest.raises(Conflict):
        await store.delete(unreadable[0])


async def test_an_event_a_decision_and_a_minute_that_cannot_be_read_are_left_out(
    store: Store, url: str, clock: FakeClock
) -> None:
    if url.startswith("memory"):
        pytest.skip("what is in memory was read before")
    first, second, third = (clock.now() + later for later in (0, 1, 2))
    for at in (first, second, third):
        event = Event(at=at, workspace="default", kind="deployment", name="web", reason="Told")
        await store.record([event])
        await store.keep_journal(
            [JournalEntry(at=at, workspace="default", deployment="web", concern="scaling", after="1", reason="so")]
        )
        await store.keep_traffic([Sample(workspace="default", deployment="web", revision=1, at_s=at, span_s=1)])
    database = connect(url)
    with database.writes.begin() as connection:
        connection.execute(update(events).where(events.c.at == second).values(at=float("inf")))
        entry = select(journal.c.id).order_by(journal.c.id).offset(1).limit(1).scalar_subquery()
        connection.execute(update(journal).where(journal.c.id == entry).values(entry="{"))
        connection.execute(update(traffic).where(traffic.c.at_s == second).values(sample="{}"))
    database.writes.dispose()
    assert [e.at for e in await store.events("default")] == [first, third]
    assert [e.at for e in await store.journal("default", "web")] == [first, third]
    assert [m.at_s for m in await store.traffic("default", "web", 0.0)] == [first, third]


NOW = FakeClock().now()


def audited(name: str = "shop", workspace: str = "default", **fields: object) -> AuditRecord:
    known = {"at": NOW, "actor": "alice", "actor_uid": "u1", "verb": "scale", "kind": "deployment", "uid": f"u-{name}"}
    return AuditRecord.model_validate(known | {"name": name, "workspace": workspace} | fields)


async def kept(store: Store) -> object:
    """All that a list of writes may change."""
    return (
        await store.version(),
        await store.list_all("workspace"),
        await store.events("default"),
        await store.journal("default", "shop"),
        await store.traffic("default", "shop", 0),
        await store.audit(AuditQuery()),
    )


async def test_writes_in_one_list_are_made_together_each_with_a_version(store: Store, clock: FakeClock) -> None:
    first, gone = await store.write([Create("workspace", "", "first", spec()), Create("workspace", "", "gone", spec())])
    made = Create("workspace", "", "made", spec(), uid="chosen", at=clock.now() - 1)
    deployment = DeploymentSpec(template=Template(artifact=f"sha256:{'0' * 64}"))
    answers = await store.write(
        [
            made,
            UpdateSpec(first, spec("changed")),
            Create("deployment", "default", "shop", deployment),
            RecordEvents([happened("shop")]),
            KeepJournal([decided("2").model_copy(update={"at": clock.now()})]),
            KeepTraffic([minute(clock.now() + 60)]),
            RecordAudit([audited()]),
            Delete(gone),
        ]
    )
    assert [(r.name, r.version) for r in answers] == [("made", 3), ("first", 4), ("shop", 5)]
    assert (answers[0].uid, answers[0].created_at, answers[1].created_at) == ("chosen", made.at, first.created_at)
    assert await store.version() == 6
    assert await store.list_all("workspace") == [answers[1], answers[0]]
    assert [event.name for event in await store.events("default")] == ["shop"]
    assert len(await store.journal("default", "shop")) == len(await store.traffic("default", "shop", 0)) == 1
    assert await store.audit(AuditQuery()) == [audited(id=1)]


async def test_a_list_without_writes_changes_nothing(store: Store) -> None:
    assert await store.write([]) == []
    assert await store.version() == 0


@pytest.mark.parametrize("refused", ["taken", "stale", "stale status", "deleted", "missing", "wrong kind"])
async def test_one_write_that_is_refused_leaves_nothing_of_the_others(store: Store, refused: str) -> None:
    old = await store.create("workspace", "", "old", spec())
    new = await store.update_spec(old, spec("new"))
    gone = await store.create("workspace", "", "gone", spec())
    await store.delete(gone)
    key = await store.create("key", "default", "key", KeySpec(hash="0" * 64, hint="k", role=Role.VIEWER))
    await store.update_spec(key, key.spec.model_copy(update={"hint": "j"}))
    wrong: dict[str, tuple[Write, type[Exception]]] = {
        "taken": (Create("workspace", "", "old", spec()), Conflict),
        "stale": (UpdateSpec(old, spec("other")), Conflict),
        "stale status": (UpdateStatus(key, KeyStatus(revoked_at=1)), Conflict),
        "deleted": (Delete(old), Conflict),
        "missing": (UpdateSpec(gone, spec("late")), NotFound),
        "wrong kind": (UpdateSpec(new, KeyStatus()), ValueError),
    }
    write, error = wrong[refused]
    good: list[Write] = [
        Create("workspace", "", "made", spec()),
        UpdateSpec(new, spec("newer")),
        RecordEvents([happened("shop")]),
        KeepJournal([decided("2")]),
        KeepTraffic([minute(1e9)]),
        RecordAudit([audited()]),
    ]
    before = await kept(store)
    for place in (0, len(good)):
        with pytest.raises(error):
            await store.write([*good[:place], write, *good[place:]] if refused != "wrong kind" else [write, *good[2:]])
        assert await kept(store) == before
    assert [r.name for r in await store.write(good)] == ["made", "old"]


async def test_a_write_sees_what_those_before_it_in_the_list_left(store: Store) -> None:
    old = await store.create("workspace", "", "team", spec())
    await store.write([Delete(old), Create("workspace", "", "team", spec("again"))])
    again = await store.get("workspace", "", "team")
    assert (again.spec, again.generation, again.uid != old.uid) == (spec("again"), 1, True)
    with pytest.raises(Conflict):
        await store.write([UpdateSpec(again, spec("one")), UpdateSpec(again, spec("two"))])
    assert await store.get("workspace", "", "team") == again


async def test_an_event_of_the_same_list_is_of_the_workspace_that_it_makes(store: Store, clock: FakeClock) -> None:
    await store.delete(await store.create("workspace", "", "team", spec()))
    made = Create("workspace", "", "team", spec(), at=clock.now())
    event = happened("team", workspace="team").model_copy(update={"at": clock.now()})
    await store.write([made, RecordEvents([event])])
    assert [kept.model_copy(update={"id": 0}) for kept in await store.events("team")] == [event]


async def test_audit_records_come_newest_first_and_by_what_is_asked(store: Store) -> None:
    records = [
        audited(at=NOW + 1),
        audited(at=NOW + 2, actor="bob", verb="delete"),
        audited("other", at=NOW + 3, workspace="team"),
        audited("made", at=NOW + 4, kind="key", actor_kind="controller", outcome="refused", before="a", after="b"),
    ]
    for record in records:
        await store.write([RecordAudit([record])])
    everything = await store.audit(AuditQuery())
    assert everything == [r.model_copy(update={"id": i}) for i, r in reversed(list(enumerate(records, start=1)))]
    for query, ids in (
        (AuditQuery(workspace="default"), [4, 2, 1]),
        (AuditQuery(actor="bob"), [2]),
        (AuditQuery(kind="key"), [4]),
        (AuditQuery(name="shop"), [2, 1]),
        (AuditQuery(names=("other", "made")), [4, 3]),
        (AuditQuery(names=()), []),
        (AuditQuery(uid="u-shop", verb="delete"), [2]),
        (AuditQuery(since=NOW + 3), [4, 3]),
        (AuditQuery(limit=2), [4, 3]),
        (AuditQuery(limit=2, before_id=3), [2, 1]),
        (AuditQuery(limit=0), []),
    ):
        assert [record.id for record in await store.audit(query)] == ids, query


async def test_audit_records_outlive_what_they_are_about(store: Store) -> None:
    made = await store.create("workspace", "", "default", spec())
    await store.write([RecordAudit([audited()]), Delete(made)])
    assert len(await store.audit(AuditQuery(workspace="default"))) == 1


async def test_old_audit_records_go_by_count_and_by_age(url: str, clock: FakeClock) -> None:
    store = open_store(url, clock, AuditRetention(records=100, age_s=1000))
    await store.open()
    try:
        for _ in range(8):
            await store.write([RecordAudit([audited(at=clock.now()) for _ in range(32)])])
        assert [r.id for r in await store.audit(AuditQuery(limit=1000))] == list(range(256, 156, -1))
        clock.jump(1001)
        await store.write([RecordAudit([audited(at=clock.now()) for _ in range(32)])])
        assert [r.id for r in await store.audit(AuditQuery(limit=1000))] == list(range(288, 256, -1))
    finally:
        await store.close()


async def test_a_write_under_an_epoch_that_is_over_is_refused(store: Store, url: str) -> None:
    assert await store.epoch() == 0
    first = under_epoch(store, await store.advance_epoch())
    made = await first.create("workspace", "", "team", spec())
    second = under_epoch(store, await store.advance_epoch())
    assert (await first.epoch(), await second.epoch()) == (2, 2)
    before = await kept(store)
    late = first.update_spec(made, spec("late")), first.delete(made), first.create("workspace", "", "late", spec())
    kept_late = first.record([happened("a")]), first.keep_journal([decided("1")]), first.keep_traffic([minute(1e9)])
    for write in (*late, *kept_late):
        with pytest.raises(StaleEpoch):
            await write
    assert await kept(store) == before
    assert (await second.update_spec(made, spec("new"))).spec == spec("new")
    assert (await store.create("workspace", "", "by-hand", spec())).name == "by-hand"  # people have no epoch


async def test_a_server_that_starts_ends_the_epoch_of_another_process(store: Store, sibling: Store) -> None:
    old = under_epoch(store, await store.advance_epoch())
    made = await old.create("workspace", "", "team", spec())
    new = under_epoch(sibling, await sibling.advance_epoch())
    with pytest.raises(StaleEpoch):
        await old.update_spec(made, spec("old"))
    assert (await new.update_spec(made, spec("new"))).spec == spec("new")


# What goes by itself

KEEP = Keep(events_s=100.0, gone_s=10.0)


def told(workspace: str, at: float, uid: str = "", reason: str = "Why") -> Event:
    return Event(at=at, workspace=workspace, kind="deployment", name="shop", uid=uid, reason=reason, message="")


async def test_events_go_when_they_are_old_and_sooner_when_their_owner_is_gone(store: Store, clock: FakeClock) -> None:
    await store.create("workspace", "", "default", spec())
    shop = await store.create("deployment", "default", "shop", A_DEPLOYMENT)
    clock.jump(200)
    now = clock.now()
    await store.record(
        [
            told("default", now - 101, shop.uid, "old"),
            told("default", now - 99, shop.uid, "of one that is there"),
            told("default", now - 11, "gone", "of one that is gone"),
            told("default", now - 9, "gone", "of one that went just now"),
            told("default", now - 99, "", "of nobody"),
        ]
    )
    assert (await store.outdated(KEEP))["events"] == 2
    assert len(await store.events("default")) == 5
    assert (await store.sweep(KEEP))["events"] == 2
    left = [e.reason for e in await store.events("default")]
    assert left == ["of one that is there", "of one that went just now", "of nobody"]
    assert not any((await store.outdated(KEEP)).values())


async def test_what_was_written_after_everything_noted_of_its_owner_went_is_collected(
    store: Store, clock: FakeClock
) -> None:
    await store.create("workspace", "", "default", spec())
    for name in ("shop", "other"):
        made = await store.create("deployment", "default", name, A_DEPLOYMENT)
        await store.keep_journal([decided("1", name).model_copy(update={"uid": made.uid})])
    await store.keep_journal([decided("1", "nobody")])
    at = {"at_s": clock.now(), "span_s": 60, "workspace": "default", "revision": 1, "cloud": "local", "arrivals": 1}
    await store.keep_traffic([Sample(deployment=name, **at) for name in ("shop", "nobody")])
    await store.record([told("nowhere", clock.now())])
    gone = await store.sweep(KEEP)
    assert (gone["decisions"], gone["traffic"], gone["events"]) == (1, 1, 1)
    for name in ("shop", "other"):
        assert len(await store.journal("default", name)) == 1
    assert await store.journal("default", "nobody") == []
    assert len(await store.traffic("default", "shop", 0)) == 1
    assert await store.traffic("default", "nobody", 0) == []


async def test_traffic_of_a_quiet_deployment_goes_after_a_week(store: Store, clock: FakeClock) -> None:
    await store.create("deployment", "default", "shop", A_DEPLOYMENT)
    at = {"workspace": "default", "deployment": "shop", "revision": 1, "cloud": "local"}
    await store.keep_traffic([Sample(at_s=clock.now(), span_s=60, arrivals=1, **at)])
    clock.jump(7 * 86_400 - 1)
    assert (await store.sweep(KEEP))["traffic"] == 0
    clock.jump(1)
    assert (await store.sweep(KEEP))["traffic"] == 1
    assert await store.traffic("default", "shop", 0) == []


async def test_that_something_was_deleted_is_noted_for_a_day(store: Store, clock: FakeClock) -> None:
    await store.create("workspace", "", "stays", spec())
    await store.delete(await store.create("workspace", "", "team", spec()))
    clock.jump(86_399)
    assert (await store.outdated(KEEP))["deleted"] == 0
    clock.jump(2)
    assert (await store.outdated(KEEP))["deleted"] == 1
    assert (await store.sweep(KEEP))["deleted"] == 1
    assert (await store.outdated(KEEP))["deleted"] == 0
    assert await store.find("workspace", "", "stays") is not None
    again = await store.create("workspace", "", "team", spec())
    assert again == await store.get("workspace", "", "team")
