"""A whole platform for tests: the real processes, with a home and a port of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
from tests.waiting import eventually

from kaon import process_locks
from kaon.settings import Settings
from kaon.stack.roles import down_file
from kaon.stack.up import down, up

BIN = Path(sys.executable).parent
SERVICES = Path(__file__).parent / "services"
API = "http://kaon.local/api/v1"
DEPLOYMENTS, REPLICAS = "/workspaces/default/deployments", "/workspaces/default/replicas"


class World:
    """One platform: what a user does with it, and faults.

    Clients are made with `verify=False`, since all is plain HTTP: to load certificates for each takes 25 ms.
    """

    def __init__(self, home: Path, port: int, **env: str) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("KAON_")}
        self.env = clean | {
            "PATH": f"{BIN}{os.pathsep}{clean.get('PATH', '')}",
            "KAON_HOME": str(home),
            "KAON_PORT": str(port),
            **env,
        }
        self.settings = Settings(home=home, port=port)
        self.home, self.port, self.url = home, port, f"http://127.0.0.1:{port}"

    # What a user does

    def kaon(self, *arguments: str, ok: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run the command line."""
        done = subprocess.run(
            [BIN / "kaon", *arguments],
            env=self.env,
            cwd=SERVICES,
            capture_output=True,
            text=True,
            input=stdin,
            timeout=170,
            check=False,
        )
        if ok:
            assert done.returncode == 0, f"kaon {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def up(self) -> None:
        """What `kaon up` does. The command itself is tried by the documentation's tests."""
        up(self.settings)

    def down(self) -> None:
        """What `kaon down` does."""
        down(self.settings)

    def clear(self, keep: str = "") -> None:
        """Delete all deployments but one, and wait until their replicas have ended."""
        with self.api() as api:
            for item in api.get(DEPLOYMENTS).json()["items"]:
                if item["name"] != keep:
                    assert api.delete(f"{DEPLOYMENTS}/{item['name']}").status_code == 204
        eventually(lambda: {r["deployment"] for r in self.get(REPLICAS)["items"]} <= {keep}, "replicas have ended")

    def serve(self, deployment: str, entry: str, replicas: int) -> None:
        """Have exactly so many replicas of a deployment ready behind the edge."""
        if any(item["name"] == deployment for item in self.get(DEPLOYMENTS)["items"]):
            with self.api() as api:
                bounds = {"min": replicas, "max": replicas}
                answer = api.post(f"{DEPLOYMENTS}/{deployment}/scale", json=bounds)
                assert answer.status_code == 200, answer.text
        else:
            self.kaon("deploy", entry, "--replicas", str(replicas))
        eventually(lambda: self.serves(deployment, replicas), f"{replicas} replicas of {deployment} serve")

    def serves(self, deployment: str, replicas: int) -> bool:
        """Whether every role runs, exactly so many replicas of the only deployment do, and the edge reaches them."""
        running = [p for p in (self.settings.run_dir / "replicas").glob("*/lock") if self.pids(p.parent.name)]
        return (
            all(self.pids(role) for role in ("server", "agent", "edge"))
            and len(running) == replicas
            and len(self.ready(deployment)) == len(self.replicas(deployment)) == replicas
            and self.call(f"/{deployment}").status_code == 200
        )

    @property
    def key(self) -> str:
        return self.settings.admin_key_file.read_text().strip()

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def api(self, timeout_s: float = 60.0) -> httpx2.Client:
        """A client of the platform's API, on its socket."""
        transport = httpx2.HTTPTransport(uds=str(self.settings.api_socket), verify=False)
        return httpx2.Client(transport=transport, base_url=API, headers=self.bearer, timeout=timeout_s)

    def get(self, path: str) -> Any:
        with self.api() as api:
            answer = api.get(path)
            assert answer.status_code == 200, answer.text
            return answer.json()

    def replicas(self, deployment: str) -> list[dict[str, Any]]:
        return list(self.get(f"/workspaces/default/deployments/{deployment}/replicas")["items"])

    def ready(self, deployment: str) -> list[dict[str, Any]]:
        return [r for r in self.replicas(deployment) if r["phase"] == "Ready"]

    def call(self, path: str, timeout_s: float = 60.0, **options: Any) -> httpx2.Response:
        return httpx2.get(f"{self.url}{path}", headers=self.bearer, timeout=timeout_s, verify=False, **options)

    def post(self, path: str, body: Any) -> httpx2.Response:
        return httpx2.post(f"{self.url}{path}", headers=self.bearer, json=body, timeout=60, verify=False)

    # What a fault does

    def lock(self, role: str) -> Path:
        """The lock of 'server', 'agent', 'edge', or of a replica by its id."""
        named = self.settings.run_dir / f"{role}.lock"
        return named if role in ("server", "agent", "edge") else self.settings.run_dir / "replicas" / role / "lock"

    def pids(self, role: str) -> list[int]:
        return process_locks.holders(self.lock(role))

    def kill(self, role: str) -> int:
        """Kill -9 the process that holds the role's lock; its pid."""
        pid = eventually(lambda: self.pids(role), f"{role} runs")[0]
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return int(pid)

    @contextlib.contextmanager
    def without_server(self) -> Iterator[None]:
        """Kill -9 the control plane, and again each time that the agent has started it, while the block runs."""
        over = threading.Event()

        def kill() -> None:
            while not over.wait(0.4):  # before it can answer, and after it was started
                for pid in self.pids("server"):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

        killing = threading.Thread(target=kill)
        killing.start()
        try:
            yield
        finally:
            over.set()
            killing.join()

    def leave_alone(self) -> None:
        """End control plane and agent; edge and replicas run on, and nothing starts the two again."""
        down = down_file(self.settings)
        down.touch()
        self.kill("server")
        eventually(lambda: not self.pids("agent"), "the agent has ended too")
        down.unlink()

    def knobs(self, replica: str) -> str:
        """The hash of the knobs in force in a replica, as the replica reports it."""
        socket = self.settings.run_dir / "replicas" / replica / "control.sock"
        with httpx2.Client(transport=httpx2.HTTPTransport(uds=str(socket), verify=False), timeout=60) as control:
            return str(control.get("http://replica/ready").json()["knobs"])

    def all_processes(self) -> list[psutil.Process]:
        """Every process that holds anything of this platform: found by its environment, its files, its arguments."""
        marks = (str(self.home), str(self.settings.run_dir))
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                command = " ".join(process.cmdline()) + process.cwd()
                files = [f.path for f in process.open_files()]
                if process.pid != os.getpid() and any(mark in text for mark in marks for text in (command, *files)):
                    found.append(process)
        return found


@contextlib.contextmanager
def world(home: Path, port: int, **env: str) -> Iterator[World]:
    """A platform that runs while the block does. Fails when any of its processes is left."""
    it = World(home, port, **env)
    try:
        it.up()
        yield it
    finally:
        try:
            it.down()
        finally:
            left = it.all_processes()
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
        assert not left, f"kaon down left processes: {left}"
