"""A process is known by the lock that it holds."""

import asyncio
import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.figures import Stopwatch
from tests.waiting import until

from kaon import proc, process_locks, processes
from kaon.errors import Conflict, InvalidInput

ENV = {"PATH": os.defpath}
FOREVER = "import time; time.sleep(600)"


@pytest.fixture
async def lock(tmp_path: Path) -> AsyncIterator[Path]:
    lock = tmp_path / "lock"
    yield lock
    await processes.stop(lock, 0)


def start(lock: Path, code: str = FOREVER, **options: object) -> int:
    return processes.spawn([sys.executable, "-S", "-c", code], lock=lock, env=ENV, **options)  # type: ignore[arg-type]


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


async def test_the_lock_is_held_from_the_birth_of_the_process_to_its_end(lock: Path) -> None:
    assert not process_locks.is_held(lock)
    pid = start(lock)
    assert process_locks.is_held(lock)
    assert process_locks.holders(lock) == [pid]
    os.kill(pid, signal.SIGKILL)
    assert await processes.ended(pid) == -signal.SIGKILL
    assert not process_locks.is_held(lock)
    assert process_locks.holders(lock) == []


async def test_a_second_process_under_the_same_lock_is_refused_and_leaves_the_first_alone(lock: Path) -> None:
    pid = start(lock)
    with pytest.raises(Conflict):
        start(lock)
    assert process_locks.holders(lock) == [pid]


async def test_looking_whether_a_lock_is_held_never_stands_in_the_way_of_a_start(lock: Path) -> None:
    lock.touch()
    stop_looking = asyncio.Event()

    def look() -> None:
        while not stop_looking.is_set():
            process_locks.is_held(lock)

    looking = asyncio.create_task(asyncio.to_thread(look))
    try:
        for _ in range(20):
            pid = start(lock, "")
            assert await processes.ended(pid) == 0
    finally:
        stop_looking.set()
        await looking


@pytest.mark.parametrize("hint", ["", "1", "999999999", "no number", "-7", "1" * 100])
async def test_a_wrong_hint_in_the_lock_file_is_not_believed(lock: Path, hint: str) -> None:
    pid = start(lock)
    assert lock.read_text() == f"{pid}\n"
    lock.write_text(hint)
    assert process_locks.leader(lock) == pid
    assert process_locks.is_held(lock)
    await processes.stop(lock, 5)
    assert process_locks.leader(lock) is None


async def test_with_a_right_hint_nobody_else_is_looked_at(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = start(lock)
    with monkeypatch.context() as patched:
        patched.setattr(process_locks, "holders_of", None)
        assert process_locks.leader(lock) == pid
        await processes.send(lock, 0)


async def test_the_holders_of_many_locks_are_found_by_one_search(tmp_path: Path) -> None:
    locks = [tmp_path / f"lock-{number}" for number in range(4)]
    pids = [start(lock) for lock in locks[:3]]
    try:
        found = process_locks.holders_of(locks)
        assert found == {**{lock: [pid] for lock, pid in zip(locks, pids, strict=False)}, locks[3]: []}
    finally:
        for lock in locks:
            await processes.stop(lock, 0)


async def test_the_process_survives_its_parent_and_is_found_by_the_lock(lock: Path) -> None:
    parent = f"""
import sys
from pathlib import Path
from kaon import process_locks, processes
processes.spawn([sys.executable, "-S", "-c", {FOREVER!r}], lock=Path({str(lock)!r}), env={{}})
"""
    done = await asyncio.create_subprocess_exec(sys.executable, "-c", parent)
    assert await done.wait() == 0
    [pid] = process_locks.holders(lock)
    assert process_locks.leader(lock) == pid
    waiting = asyncio.create_task(processes.ended(pid))
    await processes.stop(lock, 5)
    assert await waiting is None, "the exit code of somebody else's child is unknown"


async def test_stop_asks_first_and_gives_the_process_time_to_finish(lock: Path, tmp_path: Path) -> None:
    ready, finished = tmp_path / "ready", tmp_path / "finished"
    code = f"""
import signal, sys, time
def finish(*_):
    time.sleep(0.2); open({str(finished)!r}, "w").close(); sys.exit(3)
signal.signal(signal.SIGTERM, finish)
open({str(ready)!r}, "w").close()
time.sleep(600)
"""
    pid = start(lock, code)
    await until(ready.exists)
    await processes.stop(lock, 10)
    assert finished.exists()
    assert processes.exit_code(pid) == 3


async def test_stop_kills_a_process_that_does_not_listen_once_its_time_is_over(lock: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    pid = start(lock, f"{ignore} open({str(ready)!r}, 'w').close(); {FOREVER}")
    await until(ready.exists)
    watch = Stopwatch()
    await processes.stop(lock, 0.3)
    assert watch.seconds >= 0.3, "it had its time"
    assert processes.exit_code(pid) == -signal.SIGKILL


async def test_stop_ends_a_process_that_is_frozen(lock: Path) -> None:
    pid = start(lock)
    os.kill(pid, signal.SIGSTOP)
    await processes.stop(lock, 0.1)
    assert not runs(pid)


FAMILY = """
import os, subprocess, sys, time
lock = int(os.listdir("/proc/self/fd")[0])
same_session = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
holder = os.fork()
if holder == 0:
    os.setsid()
    time.sleep(600)
with open(sys.argv[1] + ".new", "w") as file:
    file.write(f"{same_session.pid} {holder}")
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(600)
"""


async def family(lock: Path, tmp_path: Path) -> list[int]:
    """A process, a child of it in its session, and a child that left the session but holds the lock."""
    born = tmp_path / "born"
    pid = processes.spawn([sys.executable, "-S", "-c", FAMILY, str(born)], lock=lock, env=ENV)
    await until(born.exists)
    return [pid, *map(int, born.read_text().split())]


async def test_stop_ends_the_whole_session_and_everybody_who_holds_the_lock(lock: Path, tmp_path: Path) -> None:
    members = await family(lock, tmp_path)
    assert set(process_locks.holders(lock)) == {members[0], members[2]}
    assert process_locks.holders(lock)[0] == members[0]
    await processes.stop(lock, 0)
    assert not any(map(runs, members))
    assert not process_locks.is_held(lock)


async def test_children_that_outlive_their_leader_are_found_and_ended(lock: Path, tmp_path: Path) -> None:
    pid, same_session, holder = await family(lock, tmp_path)
    os.kill(pid, signal.SIGKILL)
    assert await processes.ended(pid) == -signal.SIGKILL
    assert not runs(same_session), "what is left in the session ends with its leader"
    assert runs(holder)
    assert process_locks.holders(lock) == [holder]
    await processes.stop(lock, 5)
    assert not runs(holder)


async def test_stop_of_what_does_not_run_does_nothing(lock: Path) -> None:
    await processes.stop(lock, 5)
    lock.touch()
    await processes.stop(lock, 5)


async def test_standard_input_holds_what_was_given_and_ends(lock: Path, tmp_path: Path) -> None:
    out = tmp_path / "log"
    secret = b"x" * 300_000
    assert await processes.ended(start(lock, "import sys; print(len(sys.stdin.read()))", stdin=secret, log=out)) == 0
    assert out.read_text() == "300000\n"
    with pytest.raises(InvalidInput):
        start(lock, stdin=b"x" * (2**20 + 1))
    assert not process_locks.is_held(lock)


async def test_output_is_appended_to_a_log_that_only_its_owner_reads(lock: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    for word in ("one", "two"):
        await processes.ended(start(lock, f"import sys; print({word!r}, file=sys.stderr)", log=log))
    assert log.read_text() == "one\ntwo\n"
    assert log.stat().st_mode & 0o777 == 0o600


async def test_the_environment_and_open_files_are_exactly_what_was_given(
    lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("KAON_SECRET_KEY", "not for children")
    leaked = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(leaked, True)
    code = "import os; print(sorted(os.environ), len(os.listdir('/proc/self/fd')) - 1)"
    await processes.ended(start(lock, code, log=log))
    os.close(leaked)
    assert log.read_text() == "['LC_CTYPE', 'PATH'] 4\n", "three standard ones and the lock"


async def test_limits_are_in_force_and_memory_running_out_hits_the_process_first(lock: Path) -> None:
    pid = start(lock, limits=processes.ProcessLimits(open_files=99, oom_score_adj=700))
    assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (99, 99)
    assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "700\n"


async def test_memory_over_a_limit_is_told_in_bytes(lock: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    pid = start(lock, f"x = bytearray(50_000_000); open({str(ready)!r}, 'w').close(); {FOREVER}")
    await until(ready.exists)
    seen = proc.table()
    assert proc.memory_over(pid, 100_000_000, seen) == 0
    assert 50_000_000 < proc.memory_over(pid, 40_000_000, seen) < 80_000_000


async def test_a_program_that_does_not_exist_leaves_no_lock_behind(lock: Path) -> None:
    with pytest.raises(FileNotFoundError):
        processes.spawn(["/does/not/exist"], lock=lock, env=ENV)
    assert not process_locks.is_held(lock)


async def test_the_start_of_a_process_is_told_in_epoch_seconds(lock: Path) -> None:
    before = time.time()
    pid = start(lock)
    begun = proc.started_at(pid)
    assert begun is not None
    assert before - 2 < begun < time.time() + 2  # the kernel tells it in its own ticks
    await processes.stop(lock, 0)
    assert proc.started_at(pid) is None
