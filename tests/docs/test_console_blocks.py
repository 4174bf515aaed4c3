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
    reader = Reader(tmp_path / "work", shell, free_port)
    for block in blocks(page):
        reader.follow(block)
    assert reader.typed >= 4


class Reader:
    """Does what a page says, in a terminal whose folder `cd` changes."""

    def __init__(self, folder: Path, shell: dict[str, str], free_port: Callable[[], int]) -> None:
        folder.mkdir()
        self.folder = folder
        self.typed = 0
        self._shell = shell
        self._free_port = free_port

    def follow(self, block: Block) -> None:
        """Do as one block says."""
        if block.file:
            (self.folder / block.file).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / block.file).write_text(block.text, encoding="utf-8")
        if block.language == "python" and block.needs_platform:
            subprocess.run([BIN / "python", "-c", block.text], cwd=self.folder, env=self._shell, timeout=60, check=True)
        if block.language == "console":
            for step in steps(block):
                self._type(step)

    def _type(self, step: Step) -> None:
        self.typed += 1
        *firsts, last = step.command.split(" && ")
        for command in firsts:
            run(Step(command, ""), self.folder, self._shell)
        if last.startswith("cd "):
            self.folder = self.folder / last.removeprefix("cd ")
        elif last.startswith("kaon dev"):
            try_out(step, self.folder, self._shell, self._free_port())
        else:
            run(Step(last, step.output), self.folder, self._shell)
