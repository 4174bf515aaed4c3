"""Which waiting job starts next."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from kaon.laws.queue import RESERVE_AFTER_S, UNKNOWN_AT_ONCE, Amount, JobQueue, JobRoom, Start, WaitingJob

GIB = 2.0**30


def waiting(name: str, workspace: str = "a", cpus: float = 1.0, **more: object) -> WaitingJob:
    return WaitingJob((workspace, name), Amount(cpus, GIB, 0.0), **more)  # type: ignore[arg-type]


def room(queue: JobQueue, cpus: float, cloud: str = "local") -> JobRoom:
    total = Amount(cpus, 1000 * GIB, 0.0)
    return JobRoom(cloud, total.plus(queue.used_in(cloud), -1.0), total)


def queue_of(*jobs: WaitingJob) -> JobQueue:
    queue = JobQueue()
    for job in jobs:
        queue.wait(job)
    return queue


def run(queue: JobQueue, start: Start) -> None:
    job = queue.waiting_job(start.key)
    assert job is not None
    queue.run(start.key, start.cloud, job.demand, job.group)


def started(queue: JobQueue, cpus: float, now: float = 0.0) -> list[str]:
    """The names of the jobs that start, which run from then on."""
    decision = queue.decide([room(queue, cpus)], now)
    for start in decision.starts:
        run(queue, start)
    return [start.key[1] for start in decision.starts]


def test_a_higher_priority_goes_first_then_the_older_job() -> None:
    queue = queue_of(waiting("new", since=2.0), waiting("old", since=1.0), waiting("urgent", since=3.0, priority=1))
    assert started(queue, 3.0) == ["urgent", "old", "new"]


def test_workspaces_share_the_capacity_whatever_they_queue() -> None:
    many = [waiting(f"a{n}", "a", priority=100) for n in range(50)]
    queue = queue_of(*many, *(waiting(f"b{n}", "b", since=9.0) for n in range(5)))
    assert Counter(name[0] for name in started(queue, 8.0, 10.0)) == {"a": 4, "b": 4}


def test_small_jobs_pass_a_large_one_only_until_a_cloud_is_reserved_for_it() -> None:
    queue = queue_of(waiting("first", since=0.0))
    assert started(queue, 4.0) == ["first"]
    queue.wait(waiting("large", cpus=4.0, since=1.0))
    queue.wait(waiting("small", since=2.0))
    assert started(queue, 4.0, 3.0) == ["small"]
    queue.wait(waiting("next", since=4.0))
    late = 1.0 + RESERVE_AFTER_S
    assert queue.decide([room(queue, 4.0)], late).reserved == {"local": ("a", "large")}
    assert started(queue, 4.0, late) == []
    queue.forget(("a", "first"))
    queue.forget(("a", "small"))
    assert started(queue, 4.0, late) == ["large"]


def test_a_job_that_fits_nowhere_keeps_nothing_from_starting() -> None:
    queue = queue_of(waiting("huge", cpus=99.0), waiting("small", since=1.0))
    decision = queue.decide([room(queue, 4.0)], 1000.0)
    assert [start.key[1] for start in decision.starts] == ["small"]
    assert list(decision.never) == [("a", "huge")]


def test_a_job_waits_until_its_time() -> None:
    queue = queue_of(waiting("again", not_before=5.0))
    assert queue.decide([room(queue, 4.0)], 4.0).next_at == 5.0
    assert started(queue, 4.0, 5.0) == ["again"]


def test_an_array_has_so_many_jobs_at_once() -> None:
    queue = queue_of(*(waiting(f"n{n}", group="array", parallel=2, since=float(n)) for n in range(5)))
    assert started(queue, 9.0) == ["n0", "n1"]
    assert started(queue, 9.0) == []
    queue.forget(("a", "n0"))
    assert started(queue, 9.0) == ["n2"]


def test_an_unknown_capacity_takes_a_bounded_number() -> None:
    queue = queue_of(*(waiting(f"n{n}") for n in range(40)))
    decision = queue.decide([JobRoom("local", None)], 0.0)
    assert len(decision.starts) == UNKNOWN_AT_ONCE


@given(
    jobs=st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, 6), st.integers(-2, 2), st.integers(0, 3)), max_size=25
    ),
    cpus=st.lists(st.integers(1, 8), min_size=1, max_size=3),
)
def test_capacity_is_kept_and_every_job_that_can_run_does(
    jobs: list[tuple[str, int, int, int]], cpus: list[int]
) -> None:
    """However many jobs of whatever sizes wait: each round some end, and in the end all have run."""
    queue = JobQueue()
    sizes = {}
    for number, (workspace, drawn, priority, group) in enumerate(jobs):
        size = group or drawn  # jobs of an array are of one size
        key = (workspace, f"j{number}")
        sizes[key] = size
        array = {"group": (workspace, group), "parallel": 2} if group else {}
        queue.wait(waiting(key[1], workspace, float(size), priority=priority, since=float(number), **array))
    possible = {key for key, size in sizes.items() if size <= max(cpus)}
    ran, now = set(), 0.0
    for _ in range(3 * len(jobs) + 3):
        decision = queue.decide([room(queue, float(c), f"c{n}") for n, c in enumerate(cpus)], now)
        for start in decision.starts:
            run(queue, start)
            assert start.key not in ran
            ran.add(start.key)
        for n, c in enumerate(cpus):
            assert queue.used_in(f"c{n}").cpus <= c + 1e-6
        for key in list(queue.running):
            queue.forget(key)
        now += RESERVE_AFTER_S
    assert ran == possible
