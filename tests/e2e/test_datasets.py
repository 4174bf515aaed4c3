"""Datasets and state on the real platform: mounted, followed by their label, repaired, kept."""

from __future__ import annotations

from pathlib import Path

from tests.waiting import eventually

from .world import World


def call(platform: World, endpoint: str) -> str:
    return platform.kaon("call", "reader", endpoint).stdout.strip()


def test_a_service_reads_a_dataset_follows_its_label_and_keeps_its_state(platform: World, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.txt").write_text("one")
    platform.kaon("dataset", "push", "model", str(data), "--label", "prod")
    platform.kaon("deploy", "reader.py:Reader", "--dataset", "model=model@prod")
    assert "model@1" in call(platform, "version")
    assert '"a.txt": "one"' in call(platform, "read")
    assert call(platform, "count") == "1"

    (data / "a.txt").write_text("two")
    platform.kaon("dataset", "push", "model", str(data), "--label", "prod")
    eventually(
        lambda: platform.kaon("call", "reader", "version", ok=False).stdout.find("model@2") >= 0,
        "the new version serves",
    )
    assert call(platform, "count") == "2"

    call(platform, "damage")
    assert "damaged" in call(platform, "read")
    assert "as they were pushed" in platform.kaon("dataset", "verify", "model").stdout
    platform.kaon("rollout", "restart", "reader")
    eventually(
        lambda: '"a.txt": "two"' in platform.kaon("call", "reader", "read", ok=False).stdout, "the damage is repaired"
    )
    platform.kaon("rollout", "undo", "reader", "--to", "1", "-y")
    assert "model@1" in call(platform, "version")
