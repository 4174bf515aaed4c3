"""`kaon dataset` against the real API."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with small files, an empty one and a large one."""
    folder = tmp_path / "data"
    (folder / "sub" / "deep").mkdir(parents=True)
    for number in range(50):
        (folder / "sub" / f"{number:03}.csv").write_bytes(b"row %d\n" % number)
    (folder / "empty").write_bytes(b"")
    (folder / "sub" / "deep" / "数据.bin").write_bytes(os.urandom(40 * 2**20))
    (folder / ".hidden").write_bytes(b"h")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_pushed_is_pulled(world: Any, run: Run, data: Path, tmp_path: Path) -> None:
    pushed = run("dataset", "push", "shop", str(data), "--label", "prod")
    assert (pushed.code, pushed.out) == (0, "shop@1: 53 files, 41.9 MB\n"), pushed.err
    assert "Hashing" in pushed.err
    assert "Sending" in pushed.err
    again = run("dataset", "push", "shop", str(data))
    assert again.out.startswith("shop@1:")
    assert "Sending" not in again.err
    pulled = run("dataset", "pull", "shop@prod", str(tmp_path / "out"))
    assert (pulled.code, pulled.out) == (0, "shop@1: 53 files, 41.9 MB; 53 fetched\n"), pulled.err
    assert contents(tmp_path / "out") == contents(data)
    (tmp_path / "out" / "empty").unlink()
    assert run("dataset", "pull", "shop", str(tmp_path / "out")).out.endswith("; 1 fetched\n")


def test_versions_are_listed_compared_labelled_and_deleted(world: Any, run: Run, data: Path) -> None:
    run("dataset", "push", "shop", str(data))
    (data / "new").write_text("n")
    (data / "empty").unlink()
    (data / ".hidden").write_text("changed")
    assert run("dataset", "push", "shop", str(data), "-o", "name").out == "shop@2\n"
    differs = run("dataset", "diff", "shop@1", "shop").out.splitlines()
    assert differs == ["shop@1 -> shop@2: 1 added, 1 removed, 1 changed", "+ new", "- empty", "~ .hidden"]
    assert "shop-2" not in run("dataset", "ls").out
    assert run("dataset", "ls", "-o", "name").out == "shop\n"
    assert run("dataset", "label", "shop@1", "prod").code == 0
    described = run("dataset", "describe", "shop").out
    assert "labels    prod = 1" in described
    assert "key admin" in described
    one = run("dataset", "describe", "shop@prod").out
    assert one.startswith("shop@1\nfiles     53, ")
    assert "and 33 more: --all lists them" in one
    listed = json.loads(run("dataset", "describe", "shop@1", "-o", "json").out)
    assert len(listed["files"]) == 53
    assert run("dataset", "verify", "shop@prod").out.startswith("shop@1: all 53 files, ")
    refused = run("dataset", "rm", "shop@1", "-y")
    assert refused.code != 0
    assert "label 'prod'" in refused.err
    assert run("dataset", "rm", "shop@prod", "-y").code == 2
    assert run("dataset", "label", "shop", "prod", "--remove").code == 0
    assert run("dataset", "rm", "shop@1", "-y").code == 0
    assert run("dataset", "rm", "shop", "-y").code == 0
    missing = run("dataset", "describe", "shop@1")
    assert missing.code != 0
    assert "There is no dataset 'shop'" in missing.err


def test_links_and_odd_names_are_refused(world: Any, run: Run, tmp_path: Path) -> None:
    def link(folder: Path) -> None:
        (folder / "a").symlink_to("/etc/passwd")

    def linked_folder(folder: Path) -> None:
        (folder / "a").symlink_to("/etc")

    def pipe(folder: Path) -> None:
        os.mkfifo(folder / "a")

    def odd(folder: Path) -> None:
        (folder / "a\nb").write_text("x")

    def no_text(folder: Path) -> None:
        (Path(os.fsdecode(bytes(folder) + b"/\xff"))).write_text("x")

    def nothing(folder: Path) -> None:
        (folder / "sub").mkdir()

    for make in (link, linked_folder, pipe, odd, no_text, nothing):
        folder = tmp_path / make.__name__
        folder.mkdir()
        make(folder)
        said = run("dataset", "push", "shop", str(folder))
        assert said.code == 2, make.__name__
    assert run("dataset", "push", "shop", str(tmp_path / "missing")).code == 2
    assert run("dataset", "ls", "-o", "name").out == ""


def test_a_pull_never_writes_outside_its_folder_nor_over_other_files(
    world: Any, run: Run, data: Path, tmp_path: Path
) -> None:
    run("dataset", "push", "shop", str(data))
    out, outside = tmp_path / "out", tmp_path / "outside"
    out.mkdir()
    outside.mkdir()
    (out / "sub").symlink_to(outside)
    assert run("dataset", "pull", "shop", str(out)).code == 2
    assert list(outside.iterdir()) == []
    (out / "sub").unlink()
    (outside / "secret").write_text("s")
    (out / "empty").symlink_to(outside / "secret")
    assert run("dataset", "pull", "shop", str(out)).code == 2
    assert run("dataset", "pull", "shop", str(out), "--overwrite").code == 0
    assert (outside / "secret").read_text() == "s"
    assert contents(out) == contents(data)
    (out / ".hidden").write_text("mine")
    assert run("dataset", "pull", "shop", str(out)).code == 2
    assert (out / ".hidden").read_text() == "mine"


def test_damage_is_reported_and_repaired_by_a_push(world: Any, run: Run, data: Path) -> None:
    run("dataset", "push", "shop", str(data))
    space = world.settings.home / "server" / "blobs" / "spaces" / "default"
    victim = next(path for path in space.iterdir() if path.read_bytes() == b"row 7\n")
    victim.write_bytes(b"row 8\n")
    said = run("dataset", "verify", "shop")
    assert said.code != 0
    assert "sub/007.csv" in said.err
    assert run("dataset", "push", "shop", str(data)).out.startswith("shop@1:")
    assert run("dataset", "verify", "shop").code == 0


READER = """
import kaon

@kaon.service
class Reader:
    def __init__(self, model: kaon.Dataset) -> None:
        self.model = model

    @kaon.endpoint
    def files(self) -> list[str]:
        return [path.name for path in self.model]
"""


def test_a_deployment_mounts_a_dataset_and_follows_its_label(world: Any, run: Run, data: Path, tmp_path: Path) -> None:
    (tmp_path / "work" / "reader.py").write_text(READER)
    missing = run("deploy", "reader.py:Reader", "--dry-run")
    assert missing.code == 2
    assert "MODEL: required setting (Dataset) is missing" in missing.err
    assert "--dataset NAME=DATASET" in missing.err
    unknown = run("deploy", "reader.py:Reader", "--dataset", "model=shop")
    assert unknown.code == 2
    assert "There is no dataset 'shop'" in unknown.err
    run("dataset", "push", "shop", str(data), "--label", "prod")
    deployed = run("deploy", "reader.py:Reader", "--dataset", "model=shop@prod", "-o", "json")
    assert deployed.code == 0, deployed.err
    mount = json.loads(deployed.out)["spec"]["template"]["datasets"]["model"]
    assert (mount["ref"], mount["version"]["number"]) == ("shop@prod", 1)
    assert "used by   deployment reader" in run("dataset", "describe", "shop@1").out
    assert "deployment reader" in run("dataset", "rm", "shop", "-y").err
    again = run("deploy", "reader.py:Reader", "-o", "json")
    assert json.loads(again.out)["spec"]["template"]["datasets"]["model"] == mount
    assert run("deploy", "reader.py:Reader", "--dataset", "other=").code == 2


KEEPER = """
import kaon

@kaon.service(state="database")
class Keeper:
    def __init__(self, database_url: str) -> None:
        self.url = database_url

    @kaon.endpoint
    def url(self) -> str:
        return self.url
"""


def test_a_service_with_a_folder_runs_once_and_rm_says_what_goes(world: Any, run: Run, tmp_path: Path) -> None:
    (tmp_path / "work" / "keeper.py").write_text(KEEPER)
    for option in (("--replicas", "2"), ("--canary", "50")):
        refused = run("deploy", "keeper.py:Keeper", *option)
        assert refused.code == 2
        assert "keeps its state in a folder" in refused.err
    assert run("deploy", "keeper.py:Keeper").code == 0
    assert "keeps its state in a folder" in run("scale", "keeper", "2").err
    assert "database: DATABASE_URL, by default SQLite" in run("describe", "keeper").out
    asked = run("rm", "keeper", text="n\n")
    assert "the state in its folder" in asked.err + asked.out
