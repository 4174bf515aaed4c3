"""`kaon up` and `kaon down` on the real processes."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tests.waiting import eventually

from kaon import process_locks, processes
from kaon.errors import Conflict, Unavailable
from kaon.settings import Settings
from kaon.stack.roles import ProcessRole
from kaon.stack.up import down, up

from .world import World

pytestmark = [pytest.mark.timeout(600)]


def _started(platform: World, role: str) -> int:
    """Pid of the role's process."""
    return int(eventually(lambda: platform.pids(role), f"{role} runs")[0])


def test_up_again_changes_nothing_and_tells_where_it_answers(platform: World) -> None:
    before = {role: _started(platform, role) for role in ("server", "agent", "edge")}
    key = platform.key
    progress: list[tuple[str, str]] = []
    up(platform.settings, lambda phase, text: progress.append((phase, text)))
    assert progress[-1] == ("Ready", platform.url)
    assert {role: _started(platform, role) for role in before} == before
    assert platform.key == key
    assert platform.settings.admin_key_file.stat().st_mode & 0o777 == 0o600
    assert (platform.home / "agent.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("role", ["server", "agent", "edge"])
def test_a_part_that_is_killed_is_back_and_the_rest_did_not_notice(platform: World, role: str) -> None:
    others = {r: _started(platform, r) for r in {"server", "agent", "edge"} - {role}}
    for _ in range(2):
        killed = platform.kill(role)
        eventually(lambda dead=killed: platform.pids(role) not in ([], [dead]), f"{role} is back")
        eventually(lambda: platform.get("/clouds")["items"][0]["name"] == "local", "the API answers")
        eventually(lambda: platform.call("/api/v1/health").status_code == 200, "the edge answers")
    assert {r: _started(platform, r) for r in others} == others


def test_both_roles_killed_at_once_leave_replicas_serving_and_up_finds_them(platform: World) -> None:
    platform.kaon("deploy", "probe.py:Probe")
    (replica,) = platform.ready("probe")
    edge = _started(platform, "edge")
    # Stopped first, so that neither sees the other's end and starts it again.
    pids = [_started(platform, role) for role in ("server", "agent")]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not platform.pids("server") and not platform.pids("agent"), "both are gone")
    assert platform.call("/probe").status_code == 200
    platform.up()
    eventually(lambda: platform.ready("probe"), "the new agent sees the replica")
    (found,) = platform.ready("probe")
    assert (found["pid"], found["restarts"]) == (replica["pid"], 0)
    assert _started(platform, "edge") == edge
    assert platform.call("/probe").status_code == 200


def test_down_leaves_no_process_no_socket_no_lock_and_up_brings_all_back(platform: World) -> None:
    platform.kaon("deploy", "probe.py:Probe", "--replicas", "2")
    platform.down()
    assert not platform.all_processes()
    assert list(platform.settings.run_dir.iterdir()) == []
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", platform.port))
    platform.up()
    eventually(lambda: len(platform.ready("probe")) == 2, "both replicas are back")
    eventually(lambda: platform.call("/probe").status_code == 200, "they answer")
    eventually(lambda: [r["restarts"] for r in platform.ready("probe")] == [0, 0], "both are new processes")


def test_down_works_when_roles_and_edge_are_dead_or_frozen(platform: World) -> None:
    platform.kaon("deploy", "probe.py:Probe")
    server, agent = _started(platform, "server"), _started(platform, "agent")
    os.kill(server, signal.SIGSTOP)
    os.kill(agent, signal.SIGKILL)
    platform.kill("edge")
    down(platform.settings)
    assert not platform.all_processes()
    assert list(platform.settings.run_dir.iterdir()) == []
    down(platform.settings)  # nothing to do is no error


def test_a_taken_port_is_told_with_what_to_do(tmp_path: Path, free_port: Callable[[], int]) -> None:
    settings = Settings(home=tmp_path / "home", port=free_port())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", settings.port))
        taken.listen()
        with pytest.raises(Conflict, match=str(settings.port)) as error:
            up(settings)
    assert "KAON_PORT=" in error.value.hint
    assert not process_locks.is_held(settings.run_dir / "server.lock")


def test_a_part_that_cannot_start_is_told_with_its_last_words_and_nothing_is_left(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    settings = Settings(home=tmp_path / "home", port=free_port(), database_url="nonsense://x")
    with pytest.raises(Unavailable, match="nonsense"):
        up(settings)
    assert not any(process_locks.is_held(settings.run_dir / f"{name}.lock") for name in ("server", "agent", "edge"))


def test_what_a_role_starts_while_it_is_being_stopped_is_stopped_too(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    settings = Settings(home=tmp_path / "home", port=free_port())
    settings.run_dir.mkdir(mode=0o700, parents=True)
    server, agent = ProcessRole("server", settings).lock, ProcessRole("agent", settings).lock
    ready, late_pid = tmp_path / "ready", tmp_path / "late"
    dying = f"""if True:
        import pathlib, signal, sys, time
        from kaon import process_locks, processes

        def end(*_):
            late = processes.spawn(["/bin/sleep", "60"], lock=pathlib.Path({str(server)!r}), env={{}})
            pathlib.Path({str(late_pid)!r}).write_text(str(late))
            sys.exit(0)

        signal.signal(signal.SIGTERM, end)
        pathlib.Path({str(ready)!r}).touch()
        time.sleep(60)
    """
    processes.spawn([sys.executable, "-c", dying], lock=agent, env={})
    eventually(ready.exists, "it runs")
    down(settings)
    alive = {process.pid for process in psutil.process_iter() if process.status() != psutil.STATUS_ZOMBIE}
    assert int(late_pid.read_text()) not in alive


def test_secrets_of_the_platform_are_in_no_process_s_arguments_or_environment(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    secret = "c2VjcmV0LWNhbmFyeS1zZWNyZXQtY2FuYXJ5LTEyMzQ="
    settings = Settings(home=tmp_path / "home", port=free_port(), secret_key=secret)
    up(settings)
    try:
        killed = process_locks.leader(settings.run_dir / "agent.lock")
        assert killed
        os.kill(killed, signal.SIGKILL)  # the one that the server starts must be as silent
        eventually(lambda: process_locks.leader(settings.run_dir / "agent.lock") not in (None, killed), "agent is back")
        for role in ("server", "agent", "edge"):
            pid = process_locks.leader(settings.run_dir / f"{role}.lock")
            for file in ("cmdline", "environ"):
                assert secret.encode() not in Path(f"/proc/{pid}/{file}").read_bytes()
        for log in tmp_path.rglob("*.log"):
            assert secret not in log.read_text(errors="replace")
    finally:
        down(settings)
