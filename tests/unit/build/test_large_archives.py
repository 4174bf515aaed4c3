"""Archives of large files: how they are packed, and that other programs read them."""

from __future__ import annotations

import hashlib
import io
import secrets
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaon.build import archive
from kaon.build.archive import extract, pack, packed_bytes, read_manifest
from kaon.types.artifact import FileEntry, Manifest
from kaon.types.service import ServiceSpec


def packed(files: dict[str, bytes]) -> bytes:
    entries = tuple(
        FileEntry(path=path, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        for path, content in sorted(files.items())
    )
    service = ServiceSpec(name="a", entry="a:A")
    out = io.BytesIO()
    pack(Manifest(kaon="0", python="3.11", service=service, files=entries), files, out)
    return out.getvalue()


@given(size=st.one_of(st.integers(0, 2**12), st.integers(8**11 - 2, 8**11 + 2), st.integers(0, 2**50)))
def test_every_size_has_a_header_that_tar_reads(size: int) -> None:
    header = archive.tar_header("src/weights.bin", size, False)
    read = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    assert (read.name, read.size, read.mode, read.type) == ("src/weights.bin", size, 0o644, tarfile.REGTYPE)


@pytest.fixture
def small_files_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_STORED_FROM_BYTES", 100_000)


CONTENTS = {
    "src/a.txt": b"words " * 30_000,
    "src/b.bin": secrets.token_bytes(300_000),
    "src/c.txt": b"more words " * 30_000,
    "src/d.bin": secrets.token_bytes(100_001),
    "src/e.bin": secrets.token_bytes(99_999),
    "src/f.txt": b"",
}


@pytest.mark.usefixtures("small_files_are_large")
def test_files_that_hardly_shrink_are_stored_and_others_compressed(tmp_path: Path) -> None:
    data = packed(CONTENTS)
    stored = sum(len(content) for path, content in CONTENTS.items() if path.endswith(".bin"))
    assert stored < len(data) < stored + 10_000
    assert CONTENTS["src/b.bin"][:60_000] in data, "it is in the archive as it is"
    manifest = read_manifest(data)
    extract(data, tmp_path / "unpacked")
    for entry in manifest.files:
        assert (tmp_path / "unpacked" / entry.path).read_bytes() == CONTENTS[entry.path]


@pytest.mark.usefixtures("small_files_are_large")
def test_other_programs_read_it(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(packed(CONTENTS))
    subprocess.run(["tar", "-xzf", "a.tar.gz"], cwd=tmp_path, check=True)
    for path, content in CONTENTS.items():
        assert (tmp_path / path).read_bytes() == content
    with tarfile.open(tmp_path / "a.tar.gz") as opened:
        assert opened.getnames() == ["manifest.json", *CONTENTS]


@pytest.mark.usefixtures("small_files_are_large")
def test_equal_contents_give_equal_bytes_and_the_size_is_known_before(tmp_path: Path) -> None:
    assert packed(CONTENTS) == packed(CONTENTS)
    for path, content in CONTENTS.items():
        (tmp_path / Path(path).name).write_bytes(content)
    known = packed_bytes(sorted(tmp_path.iterdir()))
    assert known == pytest.approx(len(packed(CONTENTS)), rel=0.02)


@pytest.mark.usefixtures("small_files_are_large")
def test_what_can_be_compressed_is_compressed_also_in_large_files() -> None:
    assert len(packed({"src/a.txt": b"words " * 50_000})) < 5_000
