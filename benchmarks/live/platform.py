"""A real platform of the benchmark's own: the processes of `kaon up`, in a temporary home, on a free port."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.live import census
from benchmarks.live.connections import Target
from kaon.settings import Settings
from kaon.stack import up as stack

APP = Path(__file__).parent / "apps" / "sleeper.py"
KAON = Path(sys.executable).with_name("kaon")
BODY = '{"rows": [1]}'
READY_WITHIN_S = 120.0


@dataclass(frozen=True)
class Platform:
    """What the benchmark does with it."""

    settings: Settings

    def kaon(self, *arguments: str) -> str:
        """Run the command line, as a user does; what it printed."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("KAON_")}
        env = clean | {"KAON_HOME": str(self.settings.home), "KAON_PORT": str(self.settings.port)}
        command = [str(KAON), *arguments]
        done = subprocess.run(command, env=env, cwd=self.settings.home.parent, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    @contextlib.contextmanager
    def api(self) -> Iterator[httpx2.Client]:
        """A client of the API, in the default workspace."""
        transport = httpx2.HTTPTransport(uds=str(self.settings.api_socket))
        url, headers = "http://kaon.local/api/v1/workspaces/default", {"authorization": f"Bearer {self.key}"}
        with httpx2.Client(transport=transport, base_url=url, headers=headers, timeout=30) as client:
            yield client

    @property
    def key(self) -> str:
        return self.settings.admin_key_file.read_text().strip()

    def deploy(
        self, name: str, replicas: int, load_s: float, service: str = f"{APP}:Sleeper", env: Sequence[str] = ()
    ) -> None:
        """A service, `FILE:CLASS`, the sleeper unless named, under a name, with so many replicas, ready.

        `env` is what it needs besides, `NAME=VALUE`.
        """
        file, _, entry = service.rpartition(":")
        copy = Path(shutil.copy(file, self.settings.home.parent))
        count = ["--replicas", str(replicas), "--timeout", f"{READY_WITHIN_S:g}s"]
        options = [part for one in (f"LOAD_S={load_s:g}", *env) for part in ("--env", one)]
        self.kaon("deploy", f"{copy}:{entry}", "--name", name, *options, *count)

    def bound(self, name: str, scaling: dict[str, Any]) -> None:
        """Let a law scale it: `scaling` as in the deployment's spec."""
        with self.api() as api:
            api.post(f"/deployments/{name}/scale", json=scaling).raise_for_status()

    def remove(self, name: str) -> None:
        """Take a deployment away."""
        with self.api() as api:
            api.delete(f"/deployments/{name}").raise_for_status()

    def await_replicas(self, name: str, replicas: int) -> None:
        """Until exactly so many are there, all of them ready. Raises SystemExit when they never are."""
        give_up = time.monotonic() + READY_WITHIN_S
        with self.api() as api:
            while time.monotonic() < give_up:
                found = api.get(f"/deployments/{name}/replicas").raise_for_status().json()["items"]
                if [replica["phase"] for replica in found] == ["Ready"] * replicas:
                    return
                time.sleep(0.1)
        raise SystemExit(f"{name} had not {replicas} ready replicas within {READY_WITHIN_S:g} s")

    def target(self, name: str, body: str = BODY) -> Target:
        """A deployment's root endpoint through the edge."""
        return Target(name, f"{self.settings.url}/{name}/", body, (("authorization", f"Bearer {self.key}"),))

    def census(self) -> census.Named:
        """Which of its deployments a process is a replica of."""
        return census.of_kaon(self.settings.home.absolute(), _deployment_of)


def _deployment_of(launch: Path) -> str | None:
    try:
        return str(json.loads(launch.read_text())["deployment"])
    except (OSError, ValueError, KeyError):
        return None


@contextlib.contextmanager
def platform(start: Callable[[Settings], None]) -> Iterator[Platform]:
    """A platform for as long as the block lasts; `start` begins those of its roles that are to be others than usual."""
    with tempfile.TemporaryDirectory(prefix="kaon-live-") as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        settings = Settings(home=Path(folder) / "home", port=probe.getsockname()[1])
        probe.close()
        settings.home.mkdir(mode=0o700)
        try:
            start(settings)
            stack.up(settings)
            yield Platform(settings)
        finally:
            stack.down(settings)
