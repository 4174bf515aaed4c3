"""What is particular to bytes in a folder; the rest is in tests/contract/test_blobs.py."""

from __future__ import annotations

from pathlib import Path

from kaon.store.blobs import FileBlobs
from kaon.testing.blobs import NO_DIGESTS, chunks_of


async def test_only_the_owner_can_read_the_bytes(tmp_path: Path) -> None:
    await FileBlobs(tmp_path / "blobs").put(chunks_of(b"onetwo"), 6)
    (file,) = (tmp_path / "blobs").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "blobs").stat().st_mode & 0o777 == 0o700


async def test_no_name_leads_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.key").write_text("secret")
    for name in NO_DIGESTS:
        await FileBlobs(tmp_path / "blobs").delete(name)
    assert (tmp_path / "secret.key").exists()
