"""The guide's service for OpenAI clients, called by its client under `kaon dev` and deployed behind the edge."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx2
import openai
import pytest
from tests.docs.blocks import ROOT, blocks
from tests.waiting import eventually

from .world import BIN, World

pytestmark = pytest.mark.timeout(600)

PAGE = ROOT / "docs/how-to/serve-openai-clients.md"
SERVICE = next(block for block in blocks(PAGE) if block.file == "chat.py")
CLIENT = next(block for block in blocks(PAGE) if block.needs_platform)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "chat.py").write_text(SERVICE.text, encoding="utf-8")
    return folder


def printed_by_the_client(folder: Path, platform: World, url: str, key: str) -> list[str]:
    env = platform.env | {"KAON_URL": url, "KAON_KEY": key}
    command = [sys.executable, "-c", CLIENT.text]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")


def test_the_client_needs_the_url_and_a_key_only(folder: Path, platform: World, free_port: Callable[[], int]) -> None:
    port = free_port()
    dev = subprocess.Popen(
        [BIN / "kaon", "dev", "chat.py:Chat", "--port", str(port), "--no-reload"], cwd=folder, env=platform.env
    )
    try:
        eventually(lambda: answers(f"http://127.0.0.1:{port}/docs") or dev.poll() is not None, "kaon dev answers")
        expected = ["hello there", "hello", "there", ""]
        assert printed_by_the_client(folder, platform, f"http://127.0.0.1:{port}", "any") == expected
    finally:
        dev.send_signal(signal.SIGINT)
        dev.wait(60)
    subprocess.run([BIN / "kaon", "deploy", "chat.py:Chat"], cwd=folder, env=platform.env, timeout=170, check=True)
    assert printed_by_the_client(folder, platform, f"{platform.url}/chat", platform.key) == expected
    stranger = openai.OpenAI(base_url=f"{platform.url}/chat/v1", api_key="kaon_wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as refused:
        stranger.chat.completions.create(model="m", messages=[{"role": "user", "content": "a"}])
    assert refused.value.type == "authentication_error"


def answers(url: str) -> bool:
    try:
        return httpx2.get(url).status_code == 200
    except httpx2.TransportError:
        return False
