"""A replica in a process of its own, as drivers start it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
from tests.waiting import eventually

from kaon.types.key import Access
from kaon.types.launch import Launch


class Process:
    """A started replica."""

    def __init__(
        self,
        folder: Path,
        source: str,
        secrets: dict[str, str],
        environ: dict[str, str],
        python: Path = Path(sys.executable),
        **launch: Any,
    ) -> None:
        (folder / "code").mkdir(exist_ok=True)
        (folder / "code" / "work.py").write_text(source)
        told = Launch(
            **{
                "id": "0123456789ab",
                "name": "work-1-0",
                "workspace": "default",
                "deployment": "work",
                "revision": 1,
                "entry": "work:Work",
                "code_dir": str(folder / "code"),
                "service_address": f"unix:{folder}/s",
                "control_address": f"unix:{folder}/c",
                "access": Access(public=True),
                "data_dir": str(folder / "data"),
                "drain_s": 5.0,
                **launch,
            }
        )
        (folder / "launch.json").write_text(told.model_dump_json())
        self.folder = folder
        self.popen = subprocess.Popen(
            [str(python), "-m", "kaon.runtime", "--launch", str(folder / "launch.json")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=told.environment(os.environ) | environ,
            start_new_session=True,
        )
        assert self.popen.stdin is not None
        self.popen.stdin.write(json.dumps(secrets).encode())
        self.popen.stdin.close()
        self.popen.stdin = None
        self.client = httpx2.Client(
            transport=httpx2.HTTPTransport(uds=f"{folder}/s", verify=False), base_url="http://replica", timeout=60
        )
        self.control = httpx2.Client(
            transport=httpx2.HTTPTransport(uds=f"{folder}/c", verify=False), base_url="http://replica", timeout=60
        )

    def health(self, path: str = "/ready") -> int:
        try:
            return self.control.get(path).status_code
        except httpx2.TransportError:
            return 0

    def ready(self) -> Process:
        eventually(lambda: self.health() == 200)
        return self

    def end(self) -> tuple[int, str, str]:
        """Wait for the process to end by itself."""
        out, err = self.popen.communicate(timeout=60)
        return self.popen.returncode, out.decode(), err.decode()

    def close(self) -> None:
        """Whatever became of it, let nothing of it be left."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.communicate(timeout=60)
        self.client.close()
        self.control.close()
