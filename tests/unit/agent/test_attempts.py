"""Attempts of jobs: started once, followed, stopped in time, and published until that is acknowledged."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.waiting import until

from kaon.agent.act.attempt_end import collect_end
from kaon.agent.act.attempt_news import POINTS_MAX, ProgressTail, thinned
from kaon.agent.agent import Agent
from kaon.agent.decide.attempts import follow_attempt
from kaon.agent.decide.inputs import AgentInputs, PublishIt, RefusedStart, ReplicaHistory, StartIt, StopIt
from kaon.clock import FakeClock
from kaon.drivers.fake import Behaviour, FakeDriver, FakePlace, FakeReplicas
from kaon.drivers.port import ReplicaObservation, Stage
from kaon.errors import Conflict, KaonError, NotFound, Unavailable
from kaon.types.job import AttemptEnd, AttemptNews, JobCall, MetricPoint, PlannedAttempt
from kaon.types.plan import Plan
from kaon.types.replica import Phase, ReplicaSpec, Restart, WorkloadKind, replica_id

from .test_agent_on_a_fake_clock import Memory

CALL = JobCall(entry="shop:train", outputs=("model",), timeout_s=100)
WRITES = Behaviour(
    ends_after_s=3, exit_code=0, outputs={"model/weights": "12", "model/a/b": "3"}, result='{"ndcg":0.5}'
)


def planned(number: int = 1, call: JobCall = CALL, cancelled: str = "") -> PlannedAttempt:
    spec = ReplicaSpec(
        id=replica_id("default", "uid", 1, number),
        name=f"train-{number}",
        workspace="default",
        deployment="train",
        deployment_uid="uid",
        revision=1,
        ordinal=number,
        artifact=f"sha256:{'0' * 64}",
        kind=WorkloadKind.JOB,
        restart=Restart.NEVER,
        drain_s=10,
    )
    return PlannedAttempt(replica=spec, call=call, cancelled=cancelled)


ID = planned().replica.id


class Receiver:
    """The control plane's side of attempts, in memory."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.ends: list[tuple[str, AttemptEnd]] = []
        self.news: list[AttemptNews] = []
        self.fails: dict[str, Exception] = {}
        self.calls: Counter[str] = Counter()

    def _check(self, method: str) -> None:
        self.calls[method] += 1
        if method in self.fails:
            raise self.fails[method]

    async def attempt_secrets(self, attempt: str) -> dict[str, str]:
        self._check("secrets")
        return {"KAON_KEY": "kaon_job_key"}

    async def attempt_news(self, attempt: str, news: AttemptNews) -> None:
        self._check("news")
        self.news.append(news)

    async def missing_files(self, attempt: str, digests: Sequence[str]) -> list[str]:
        self._check("missing")
        return [digest for digest in digests if digest not in self.files]

    async def upload_file(self, attempt: str, digest: str, file: Path) -> None:
        self._check("upload")
        self.files[digest] = file.read_bytes()

    async def attempt_end(self, attempt: str, end: AttemptEnd) -> None:
        self._check("end")
        self.ends.append((attempt, end))


class World:
    """One agent over a fake place, on a clock that runs a hundred times as fast."""

    def __init__(self, folder: Path, behaviour: Behaviour) -> None:
        self.clock = FakeClock()
        self.place = FakePlace(self.clock, script=lambda _: behaviour, jobs=folder / "jobs")
        self.memory = Memory(self.clock)
        self.receiver = Receiver()
        self._folder = folder
        self._agent: asyncio.Task[None] | None = None

    def start_agent(self) -> None:
        driver = FakeDriver(self.place)
        control: Any = {"replicas": FakeReplicas(self.place), "attempts": self.receiver}
        agent = Agent("local", self.memory, driver, self.memory, self.clock, self._folder, "http://edge", **control)
        self._agent = asyncio.create_task(agent.run())

    async def kill_agent(self) -> None:
        if self._agent:
            self._agent.cancel()
            await asyncio.wait([self._agent])

    def plan(self, *attempts: PlannedAttempt) -> None:
        self.memory.wanted = Plan(cloud="local", attempts=attempts)

    async def until(self, condition: Callable[[], object], what: str) -> None:
        async def look() -> object:
            if not (found := condition()):
                await self.clock.advance(0.05)
            return found

        await until(look, what)

    async def pass_time(self, seconds: float) -> None:
        until = self.clock.monotonic() + seconds
        await self.until(lambda: self.clock.monotonic() >= until, "time")

    @property
    def phases(self) -> list[Phase]:
        return [status.phase for status in self.memory.reports[-1].replicas] if self.memory.reports else []


@asynccontextmanager
async def world_of(folder: Path, behaviour: Behaviour) -> AsyncIterator[World]:
    world = World(folder, behaviour)
    world.start_agent()
    try:
        yield world
    finally:
        await world.kill_agent()


async def test_an_attempt_is_run_once_published_and_forgotten_when_the_plan_drops_it(tmp_path: Path) -> None:
    async with world_of(tmp_path, WRITES) as world:
        world.plan(planned())
        await world.until(lambda: world.phases == [Phase.READY], "it runs")
        await world.until(lambda: world.receiver.ends, "its end")
        attempt, end = world.receiver.ends[0]
        assert (attempt, end.exit_code, end.reason, end.result) == (ID, 0, "", {"ndcg": 0.5})
        assert [file.path for file in end.outputs["model"].files] == ["a/b", "weights"]
        assert sorted(world.receiver.files.values()) == [b"12", b"3"]
        await world.pass_time(30)
        assert len(world.receiver.ends) == 1
        assert world.place.pids == 1001, "it was started once"
        assert (tmp_path / "jobs" / ID).exists()
        world.plan()
        await world.until(lambda: not world.place.replicas, "it is forgotten")
        assert not (tmp_path / "jobs" / ID).exists()


async def test_an_agent_that_is_killed_leaves_the_publication_to_the_next(tmp_path: Path) -> None:
    async with world_of(tmp_path, WRITES) as world:
        world.receiver.fails["end"] = Unavailable("away")
        world.plan(planned())
        await world.until(lambda: world.phases == [Phase.COMPLETED], "it has ended")
        await world.until(lambda: "cannot be published" in world.memory.reports[-1].replicas[0].reason, "the reason")
        await world.kill_agent()
        world.receiver.fails.clear()
        world.start_agent()
        await world.until(lambda: world.receiver.ends, "its end")
        assert world.receiver.ends[0][1].outputs["model"].files[1].path == "weights"
        assert world.place.pids == 1001


@pytest.mark.parametrize("error", [Unavailable("away"), RuntimeError("a bug")])
@pytest.mark.parametrize("method", ["missing", "upload", "end"])
async def test_a_publication_that_fails_is_repeated_ever_more_seldom(
    tmp_path: Path, method: str, error: Exception
) -> None:
    async with world_of(tmp_path, WRITES) as world:
        world.receiver.fails[method] = error
        world.plan(planned())
        await world.until(lambda: world.receiver.calls[method], "a first attempt")
        await world.pass_time(60)
        files = 2 if method == "upload" else 1
        assert 1 < world.receiver.calls[method] <= 10 * files
        world.receiver.fails.clear()
        await world.until(lambda: world.receiver.ends, "its end")


@pytest.mark.parametrize("refusal", [Conflict("The attempt was given up."), NotFound("There is no such attempt.")])
async def test_what_an_attempt_made_that_was_given_up_is_discarded(tmp_path: Path, refusal: KaonError) -> None:
    async with world_of(tmp_path, WRITES) as world:
        world.receiver.fails["end"] = refusal
        world.plan(planned())
        await world.until(lambda: world.phases == [Phase.COMPLETED], "it has ended")
        await world.pass_time(60)
        world.plan()
        await world.until(lambda: not world.place.replicas, "it is forgotten")
        assert (world.receiver.ends, world.place.pids) == ([], 1001)


async def test_a_plan_that_is_older_than_an_end_starts_nothing(tmp_path: Path) -> None:
    async with world_of(tmp_path, WRITES) as world:
        world.receiver.fails["secrets"] = NotFound("There is no such attempt.")
        world.plan(planned())
        await world.pass_time(60)
        assert world.place.replicas == {}
        del world.receiver.fails["secrets"]
        await world.until(lambda: world.place.replicas, "it is started")


async def test_a_failure_has_its_exit_code_reason_and_last_lines(tmp_path: Path) -> None:
    fails = Behaviour(ends_after_s=1, exit_code=3, lines=("loading", "ValueError: no rows"))
    async with world_of(tmp_path, fails) as world:
        world.plan(planned())
        await world.until(lambda: world.receiver.ends, "its end")
        end = world.receiver.ends[0][1]
        assert (end.exit_code, end.last_lines, end.outputs) == (3, ("loading", "ValueError: no rows"), {})
        assert end.reason == "It ended with exit code 3."
        assert world.phases == [Phase.CRASHED]


async def test_a_job_that_ignores_its_time_limit_is_killed(tmp_path: Path) -> None:
    async with world_of(tmp_path, Behaviour(deaf=True)) as world:
        world.plan(planned())
        await world.until(lambda: world.receiver.ends, "its end")
        end = world.receiver.ends[0][1]
        assert (end.exit_code, end.timed_out) == (-9, True)
        assert end.reason == "It took longer than its time limit of 100 s."


async def test_a_cancelled_attempt_is_stopped_and_one_that_never_began_is_not_started(tmp_path: Path) -> None:
    async with world_of(tmp_path, Behaviour(deaf=True)) as world:
        world.plan(planned())
        await world.until(lambda: world.phases == [Phase.READY], "it runs")
        world.plan(planned(cancelled="Cancelled"), planned(2, cancelled="Cancelled"))
        await world.until(lambda: len(world.receiver.ends) == 2, "both ends")
        assert {end.reason for _, end in world.receiver.ends} == {"It was cancelled."}
        assert {attempt: end.exit_code for attempt, end in world.receiver.ends} == {ID: -9, planned(2).replica.id: None}
        assert world.place.pids == 1001


async def test_an_attempt_that_the_plan_dropped_is_ended_and_publishes_nothing(tmp_path: Path) -> None:
    async with world_of(tmp_path, Behaviour()) as world:
        world.plan(planned())
        await world.until(lambda: world.phases == [Phase.READY], "it runs")
        world.plan()
        await world.until(lambda: not world.place.replicas, "it is gone")
        assert world.receiver.ends == []


async def test_progress_is_passed_on_and_sent_once(tmp_path: Path) -> None:
    async with world_of(tmp_path, Behaviour(deaf=True)) as world:
        world.plan(planned())
        await world.until(lambda: world.phases == [Phase.READY], "it runs")
        file = tmp_path / "jobs" / ID / "progress.jsonl"
        file.write_text('{"step":1,"at":5,"fraction":0.1,"text":"epoch 1","values":{"loss":0.5}}\n')
        await world.until(lambda: world.receiver.news, "news")
        (news,) = world.receiver.news
        assert (news.progress.fraction, news.progress.text) == (0.1, "epoch 1")
        assert news.points == (MetricPoint(step=1, at=5, fraction=0.1, values={"loss": 0.5}),)
        world.receiver.fails["news"] = Unavailable("away")
        with file.open("a") as opened:
            opened.write('{"step":2,"values":{"loss":0.4}}\nnonsense\n{"fraction":0.2,"te')
        await world.pass_time(5)
        world.receiver.fails.clear()
        await world.until(lambda: len(world.receiver.news) == 2, "more news")
        assert [point.step for point in world.receiver.news[1].points] == [2]
        await world.kill_agent()
        world.start_agent()
        await world.until(lambda: len(world.receiver.news) == 3, "the next agent's news")
        await world.pass_time(5)
        assert [news.points for news in world.receiver.news[2:]] == [()]


# The decision alone


def decided(
    observation: ReplicaObservation | None, history: ReplicaHistory | None = None, **more: Any
) -> tuple[ReplicaHistory, Any]:
    attempt = more.pop("attempt", planned())
    inputs = AgentInputs(now=1000.0, wall=5000.0, observed={}, health={}, **({"refused": {}} | more))
    return follow_attempt(history or ReplicaHistory(), attempt, observation, inputs)


def seen(stage: Stage = Stage.STARTING, **more: Any) -> ReplicaObservation:
    return ReplicaObservation(id=ID, stage=stage, **more)


def test_a_start_that_is_refused_for_good_is_the_end() -> None:
    refusal = RefusedStart(Phase.CONFIG_ERROR, "It can never run here.", final=True)
    history, action = decided(None, refused={ID: refusal})
    assert action is None
    history, action = decided(None, history)
    assert isinstance(action, PublishIt)
    assert action.reason == "It can never run here."


def test_a_start_without_room_is_repeated() -> None:
    history, _ = decided(None, refused={ID: RefusedStart(Phase.NO_CAPACITY, "No room left.")})
    assert (history.phase, decided(None, history)[1]) == (Phase.NO_CAPACITY, None)
    assert decided(None, ReplicaHistory())[1] == StartIt(planned().replica)


def test_a_preparation_that_could_not_reach_something_is_repeated_ever_more_seldom() -> None:
    failed = seen(Stage.EXITED, reason="The control plane cannot be reached.", try_again=True)
    history, action = decided(failed)
    assert (history.phase, action) == (Phase.INSTALLING, None)
    assert decided(failed, replace(history, retry_at=999.0))[1] == StartIt(planned().replica)
    assert isinstance(decided(failed, history, attempt=planned(cancelled="Cancelled"))[1], PublishIt)
    assert isinstance(decided(failed.model_copy(update={"try_again": False}), history)[1], PublishIt)


def test_the_time_limit_counts_from_the_start_of_the_process_also_with_another_agent() -> None:
    history, action = decided(seen(started_at=4901.0))
    assert (history.phase, action) == (Phase.READY, None)
    _, action = decided(seen(started_at=4899.0))
    assert isinstance(action, StopIt)
    assert action.grace_s == 10


def test_a_stop_by_an_earlier_agent_is_known_by_its_times() -> None:
    times = {"started_at": 4000.0, "ended_at": 4101.0}
    for code, timed_out in ((-9, True), (143, True), (None, True), (1, False), (0, False)):
        _, action = decided(seen(Stage.EXITED, exit_code=code, reason="why", **times))
        assert action.timed_out is timed_out, code


def test_outputs_over_their_quota_end_the_job() -> None:
    attempt = planned(call=CALL.model_copy(update={"output_bytes_max": 10}))
    assert decided(seen(), attempt=attempt, output_bytes={ID: 10})[1] is None
    history, action = decided(seen(), attempt=attempt, output_bytes={ID: 11})
    assert isinstance(action, StopIt)
    _, action = decided(seen(Stage.EXITED, exit_code=-9), history, attempt=attempt)
    assert action.reason == "Its outputs have more than 10 bytes."


# What an attempt has made


def ended(**more: Any) -> PublishIt:
    return PublishIt(ID, planned(**more), seen(Stage.EXITED, exit_code=0))


@pytest.mark.parametrize("kind", ["missing", "empty", "link", "pipe", "deep link", "name"])
def test_an_output_that_cannot_be_a_version_fails_the_job(tmp_path: Path, kind: str) -> None:
    model = tmp_path / "outputs/model"
    model.mkdir(parents=True)
    (model / "weights").write_text("1")
    match kind:
        case "missing" | "empty":
            (model / "weights").unlink()
            if kind == "missing":
                model.rmdir()
        case "link":
            (model / "latest").symlink_to(model / "weights")
        case "deep link":
            (model / "a").symlink_to("/etc")
        case "pipe":
            os.mkfifo(model / "pipe")
        case "name":
            (model / "new\nline").write_text("1")
    end = collect_end(ended(), tmp_path).end
    assert "output 'model'" in end.reason.lower() or "Output 'model'" in end.reason
    assert end.outputs == {}


def test_outputs_over_the_quota_and_bad_results_fail_the_job(tmp_path: Path) -> None:
    model = tmp_path / "outputs/model"
    model.mkdir(parents=True)
    (model / "weights").write_text("12345")
    small = CALL.model_copy(update={"output_bytes_max": 4})
    assert collect_end(ended(call=small), tmp_path).end.reason.startswith("Its outputs have 5 bytes; at most 4")
    for text, reason in (("{", "not JSON"), ("NaN", "not JSON"), (json.dumps("x" * 2**20), "more than 1,048,576")):
        (tmp_path / "result.json").write_text(text)
        assert reason in collect_end(ended(), tmp_path).end.reason
    (tmp_path / "result.json").unlink()
    (tmp_path / "result.json").symlink_to("/etc/hostname")
    assert "is a link" in collect_end(ended(), tmp_path).end.reason
    (tmp_path / "result.json").unlink()
    collected = collect_end(ended(), tmp_path)
    assert (collected.end.reason, collected.end.result) == ("", None)
    assert [path.name for path in collected.files.values()] == ["weights"]


def test_no_report_is_lost_at_a_rotation_and_odd_ones_are_left_out(tmp_path: Path) -> None:
    tail, file = ProgressTail(tmp_path), tmp_path / "progress.jsonl"
    assert tail.read() == []
    file.write_text('{"step":1,"values":{"a":1}}\n')
    assert [point.step for point in tail.read()] == [1]
    with file.open("a") as opened:
        opened.write('{"step":2,"values":{"a":1}}\n')
    file.rename(tmp_path / "progress.jsonl.1")
    odd = ['{"step":-1}', "[]", '{"values":3}', '{"step":4,"values":{"a":true,"b c":1,"d":1e999,"e":"f"}}']
    file.write_text("\n".join(['{"step":3,"values":{"a":1}}', *odd, '{"fraction":7}']) + "\n")
    assert [point.step for point in (*tail.read(), *tail.read())] == [2, 3]
    assert tail.progress.fraction == 1.0


def test_many_points_are_thinned_and_the_last_one_stays() -> None:
    points = [MetricPoint(step=step, at=0) for step in range(10_001)]
    kept = thinned(points)
    assert len(kept) <= POINTS_MAX
    assert (kept[0].step, kept[-1].step) == (0, 10_000)
