"""Folders of deployments outlive their deletion for a while, and no longer."""

from __future__ import annotations

from pathlib import Path

from kaon.drivers.process.volumes import prune_volumes

WEEK_S = 7 * 86_400.0


def volume(volumes: Path, name: str) -> Path:
    folder = volumes / "default" / name
    folder.mkdir(parents=True)
    (folder / "data").write_text("kept")
    return folder


def test_a_folder_goes_a_week_after_its_owner(tmp_path: Path) -> None:
    here, deleted, old = (volume(tmp_path, name) for name in ("web.u1", "shop.u2", "ancient"))
    for now in (0.0, WEEK_S - 1):
        prune_volumes(tmp_path, {"u1"}, (), now, WEEK_S)
        assert deleted.exists()
    prune_volumes(tmp_path, {"u1"}, (), WEEK_S, WEEK_S)
    assert (here.exists(), deleted.exists(), old.exists()) == (True, False, True)


def test_an_owner_that_is_there_again_begins_anew(tmp_path: Path) -> None:
    folder = volume(tmp_path, "web.u1")
    prune_volumes(tmp_path, (), (), 0.0, WEEK_S)
    prune_volumes(tmp_path, {"u1"}, (), 10.0, WEEK_S)
    prune_volumes(tmp_path, (), (), WEEK_S + 10, WEEK_S)
    assert folder.exists()


def test_a_folder_in_use_stays(tmp_path: Path) -> None:
    folder = volume(tmp_path, "web.u1")
    for now in (0.0, 2 * WEEK_S):
        prune_volumes(tmp_path, (), {str(folder)}, now, WEEK_S)
    assert (folder / "data").read_text() == "kept"


def test_without_folders_there_is_nothing_to_do(tmp_path: Path) -> None:
    prune_volumes(tmp_path / "missing", (), (), 0.0, WEEK_S)
    assert not (tmp_path / "missing").exists()
