"""The console blocks of README and tutorials, typed one after the other against a real platform."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .blocks import ROOT, Block, Step, blocks, pages, steps

BIN = Path(sys.executable).parent
PAGES = pages("README.md", "docs/tutorial/*.md")


@pytest.fixture
def shell(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[dict[str, str]]:
    """The environment of a reader's terminal, with a platform of its own that is gone afterwards."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("KAON_")}
    path = f"{BIN}{os.pathsep}{clean.get('PATH', '')}"
    env = clean | {"PATH": path, "KAON_HOME": str(tmp_path / "home"), "KAON_PORT": str(free_port())}
    yield env
    subprocess.run([BIN / "kaon", "down"], env=env, capture_output=True, timeout=180, check=False)


def run(step: Step, folder: Path, env: dict[str, str]) -> None:
    """Type one command; it must end well and print what the page says."""
    done = subprocess.run(
        shlex.split(step.command), cwd=folder, env=env, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, f"$ {step.command}\n{done.stdout}{done.stderr}"
    if step.output.strip():
        assert done.stdout.strip() == step.output.strip(), f"$ {step.command}\n{done.stderr}"


def try_out(step: Step, folder: Path, env: dict[str, str], port: int) -> None:
    """`kaon dev` serves until Ctrl-C: it must say where, and end well."""
    argv = [*shlex.split(step.command), "--port", str(port)]
    process = subprocess.Popen(argv, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        output = ""
        while f"127.0.0.1:{port}" not in output and (line := process.stdout.readline()):
            output += line
        assert f"127.0.0.1:{port}" in output, output
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode in (0, 130)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_of_the_page_do_what_it_says(
    page: Path, tmp_path: Path, shell: dict[str, str], free_port: Callable[[], int]
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    typed = 0
    for block in blocks(page):
        typed += follow(block, folder, shell, free_port)
    assert typed >= 4


def follow(block: Block, folder: Path, shell: dict[str, str], free_port: Callable[[], int]) -> int:
    """Do as one block says; returns how many commands it had."""
    if block.file:
        (folder / block.file).write_text(block.text, encoding="utf-8")
    if block.language == "python" and block.needs_platform:
        subprocess.run([BIN / "python", "-c", block.text], cwd=folder, env=shell, timeout=60, check=True)
    if block.language != "console":
        return 0
    for step in steps(block):
        if step.command.startswith("kaon dev"):
            try_out(step, folder, shell, free_port())
        else:
            run(step, folder, shell)
    return len(steps(block))
