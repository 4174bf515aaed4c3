"""What is packed and how it travels, typed against the real API."""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path
from typing import Any

import pytest

from kaon.build.build import Built
from kaon.build.collecting import LeftOut
from kaon.build.listing import Listing
from kaon.cli.build import listing_table
from kaon.cli.shared.artifacts import size_text
from kaon.errors import Unavailable
from kaon.store.uploads import Uploads
from kaon.types.artifact import FileEntry, Manifest
from kaon.types.service import ServiceSpec

Run = Any


@pytest.fixture
def mixed(project: Path) -> Path:
    """A project with files of all kinds."""
    (project / ".gitignore").write_text("*.onnx\n")
    (project / "model.onnx").write_bytes(b"x" * 5000)
    (project / "model.pkl").write_bytes(b"\x80\x04]\x94.")
    (project / "words.txt").write_text("hello " * 1000)
    (project / "server.pem").write_text("-----BEGIN PRIVATE KEY-----\n" + "A" * 40 + "\n")
    (project / "__pycache__").mkdir()
    return project


def test_what_would_be_packed_is_listed_and_nothing_is_built(run: Run, mixed: Path) -> None:
    said = run("build", "greeter.py:Greeter", "--list", "-o", "json")
    assert said.code == 0, said.err
    listing = json.loads(said.out)
    assert [file["path"] for file in listing["files"]] == ["greeter.py", "words.txt"]
    assert listing["unpacked_bytes"] == sum((mixed / file["path"]).stat().st_size for file in listing["files"])
    assert 0 < listing["packed_bytes"] < listing["unpacked_bytes"]
    assert {(left["path"], left["reason"]) for left in listing["left_out"]} >= {
        ("model.onnx", ".gitignore line 1: *.onnx"),
        ("__pycache__/", "files of tools: __pycache__/"),
    }
    assert [file["path"] for file in listing["refused"]] == ["model.pkl", "server.pem"]
    assert not (mixed / "dist").exists()
    assert not (mixed / "requirements.lock").exists()


def test_the_list_follows_the_options(run: Run, mixed: Path) -> None:
    options = ("--include", "model.onnx", "--include", "server.pem", "--allow-pickle")
    said = run("build", "greeter.py:Greeter", "--list", "-o", "name", *options)
    assert said.out.split() == ["greeter.py", "model.onnx", "model.pkl", "server.pem", "words.txt"]


def test_the_list_is_a_table_with_totals(run: Run, mixed: Path) -> None:
    said = run("build", "greeter.py:Greeter", "--list")
    assert "2 files, 6." in said.err
    assert "2 refused. Nothing was built." in said.err
    assert "to pack it: --allow-pickle" in said.out


@pytest.mark.parametrize("columns", [80, 120])
def test_the_list_fits_the_terminal(golden: Any, columns: int) -> None:
    listing = Listing(
        files=(("greeter.py", 321), ("models/weights.safetensors", 2_100_000_000)),
        left_out=(
            LeftOut(".venv/", "files of tools: .venv/", is_expected=True),
            LeftOut("a.onnx", ".gitignore line 3: *.onnx"),
        ),
        refused=(LeftOut("secrets/server.pem", "a private key; to pack it: --include secrets/server.pem"),),
        packed_bytes=1_900_000_000,
    )
    golden(f"shown/build-list-{columns}", listing_table(listing, columns) + "\n")


def test_a_pickle_is_refused_with_both_ways_and_described_when_it_is_allowed(
    world: Any, run: Run, project: Path
) -> None:
    (project / "model.pkl").write_bytes(b"\x80\x04]\x94.")
    refused = run("deploy", "greeter.py:Greeter")
    assert refused.code == 1
    for words in ("model.pkl", "@kaon.service(allow_pickle=True)", "--allow-pickle"):
        assert words in " ".join(refused.err.split())
    assert run("deploy", "greeter.py:Greeter", "--allow-pickle").code == 0
    assert "pickles\n  model.pkl" in run("describe", "greeter").out
    artifact = json.loads(run("get", "artifacts", "-o", "json").out)[0]["name"]
    assert "- model.pkl" in run("describe", "artifact", artifact).out
    assert "allow-pickle" in run("audit").out


class Flaky:
    """The platform's uploads, cut at an offset so many times."""

    def __init__(self, cut_at: int, times: int) -> None:
        self.cut_at, self.left = cut_at, times
        self.offsets: list[int] = []
        self.real = Uploads.append

    async def append(self, uploads: Uploads, *args: Any, offset: int, size_bytes: int) -> Any:
        self.offsets.append(offset)
        if offset >= self.cut_at and self.left > 0:
            self.left -= 1
            raise Unavailable("The connection was cut.")
        return await self.real(uploads, *args, offset=offset, size_bytes=size_bytes)


@pytest.fixture
def large(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose artifact is sent in several requests."""
    monkeypatch.setattr("kaon.client.platform.PART_BYTES", 100_000)
    (project / "weights.bin").write_bytes(secrets.token_bytes(450_000))
    return project


def cut(monkeypatch: pytest.MonkeyPatch, cut_at: int, times: int) -> Flaky:
    flaky = Flaky(cut_at, times)

    async def append(self: Uploads, *args: Any, **more: Any) -> Any:
        return await flaky.append(self, *args, **more)

    monkeypatch.setattr(Uploads, "append", append)
    return flaky


def test_a_cut_upload_goes_on_in_the_same_command(
    world: Any, run: Run, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flaky = cut(monkeypatch, 200_000, 2)
    said = run("deploy", "greeter.py:Greeter")
    assert said.code == 0, said.err
    assert flaky.offsets == [0, 100_000, 200_000, 200_000, 200_000, 300_000, 400_000]
    assert re.search(r"Uploading: 3\S+ kB of 4\S+ kB", said.err), said.err


def test_an_upload_that_was_given_up_is_continued_by_the_next_command_and_an_equal_one_sends_nothing(
    world: Any, run: Run, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kaon.client.platform._UPLOAD_TRIES", 0)
    flaky = cut(monkeypatch, 300_000, 1)
    assert run("deploy", "greeter.py:Greeter").code == 7
    assert flaky.offsets == [0, 100_000, 200_000, 300_000]
    flaky.offsets.clear()
    assert run("deploy", "greeter.py:Greeter").code == 0
    assert flaky.offsets == [300_000, 400_000]
    flaky.offsets.clear()
    assert run("deploy", "greeter.py:Greeter", "--env", "A=1").code == 0
    assert flaky.offsets == []


def test_a_large_artifact_names_its_largest_files(tmp_path: Path) -> None:
    sizes = {"src/a.bin": 2_100_000_000, "src/b.py": 300, "src/c.bin": 40_000_000}
    files = tuple(FileEntry(path=path, size_bytes=count, sha256="0" * 64) for path, count in sizes.items())
    manifest = Manifest(kaon="0", python="3.11", service=ServiceSpec(name="a", entry="a:A"), files=files)
    lines = size_text(Built(tmp_path, "sha256:", manifest, 2_000_000_000)).splitlines()
    assert lines[0] == "3 files, 2.1 GB, packed 2.0 GB"
    assert [line.split()[-1] for line in lines[1:]] == ["a.bin", "c.bin", "b.py"]
    assert "2.1 GB" in lines[1]
    small = Built(tmp_path, "sha256:", manifest.model_copy(update={"files": files[1:2]}), 200)
    assert size_text(small) == "1 file, 300 B, packed 200 B"
