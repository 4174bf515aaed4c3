"""Versions as folders of a machine: verified, shared, read-only, repaired, pruned."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.waiting import until

from kaon.datasets import batches as batching
from kaon.datasets.cache import DatasetCache
from kaon.errors import NotFound, Unavailable
from kaon.laws.datasets import manifest_of
from kaon.types.dataset import DatasetFile, DatasetManifest, DatasetVersionRef
from kaon.types.model import canonical_json, content_hash


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "LARGE_BYTES", 5000)
    monkeypatch.setattr(batching, "BATCH_FILES", 3)


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Origin:
    """Versions in memory; `fault` is raised in the middle of a stream."""

    def __init__(self) -> None:
        self.manifests: dict[str, DatasetManifest] = {}
        self.contents: dict[str, bytes] = {}
        self.fetched: list[str] = []
        self.fault: Exception | None = None
        self.gate: threading.Event | None = None
        self.requests = 0

    def add(self, name: str, number: int, contents: dict[str, bytes]) -> DatasetVersionRef:
        files = []
        for path, data in contents.items():
            files.append(DatasetFile(path=path, size_bytes=len(data), digest=digest(data)))
            self.contents[files[-1].digest] = data
        manifest = manifest_of(files)
        named = f"sha256:{content_hash(manifest)}"
        self.manifests[named] = manifest
        return DatasetVersionRef(dataset=name, number=number, manifest=named)

    def manifest(self, digest: str) -> bytes:
        if digest not in self.manifests:
            raise NotFound("none")
        return canonical_json(self.manifests[digest])

    def files_of(self, digest: str) -> Files:
        return Files(self, self.manifests[digest])


class Files:
    def __init__(self, origin: Origin, manifest: DatasetManifest) -> None:
        self.origin, self.manifest = origin, manifest

    def files(self, first: int, count: int, offset: int = 0) -> Iterator[bytes]:
        self.origin.requests += 1
        if self.origin.gate:
            self.origin.gate.wait(20)
        for file in self.manifest.files[first : first + count]:
            self.origin.fetched.append(file.path)
            data = self.origin.contents[file.digest][offset:]
            offset = 0
            yield data[: len(data) // 2]
            if self.origin.fault:
                raise self.origin.fault
            yield data[len(data) // 2 :]


CONTENTS = {"a": b"1", "sub/b": b"2" * 1000, "sub/deep/c": b"", "large": os.urandom(20_000), "z": b"last"}


@pytest.fixture
def origin() -> Origin:
    return Origin()


@pytest.fixture
def cache(tmp_path: Path, origin: Origin) -> DatasetCache:
    return DatasetCache(tmp_path / "datasets", origin)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_a_version_is_a_read_only_folder(cache: DatasetCache, origin: Origin) -> None:
    folder = await cache.materialize(origin.add("shop", 1, CONTENTS))
    assert contents(folder) == CONTENTS
    for path in (folder, *folder.rglob("*")):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o222


async def test_readers_share_one_copy(cache: DatasetCache, origin: Origin) -> None:
    ref = origin.add("shop", 1, CONTENTS)
    folders = await asyncio.gather(*(cache.materialize(ref) for _ in range(5)))
    assert len(set(folders)) == 1
    assert sorted(origin.fetched) == sorted(CONTENTS)
    assert await cache.materialize(ref) == folders[0]
    assert len(origin.fetched) == len(CONTENTS)


async def test_who_gives_up_leaves_the_work_to_the_others(cache: DatasetCache, origin: Origin) -> None:
    ref = origin.add("shop", 1, CONTENTS)
    origin.gate = threading.Event()
    first, second = (asyncio.create_task(cache.materialize(ref)) for _ in range(2))
    await until(lambda: origin.requests > 0, "the version is being fetched")
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    origin.gate.set()
    assert contents(await second) == CONTENTS


async def test_a_cut_fetch_goes_on_and_shows_nothing_before_its_end(
    cache: DatasetCache, origin: Origin, tmp_path: Path
) -> None:
    ref = origin.add("shop", 1, CONTENTS)
    origin.fault = Unavailable("cut")
    with pytest.raises(Unavailable):
        await cache.materialize(ref)
    assert [p for p in (tmp_path / "datasets").iterdir() if not p.name.startswith(".")] == []
    origin.fault = None
    assert contents(await DatasetCache(tmp_path / "datasets", origin).materialize(ref)) == CONTENTS


async def test_wrong_bytes_and_wrong_manifests_are_never_mounted(origin: Origin, tmp_path: Path) -> None:
    ref = origin.add("shop", 1, CONTENTS)
    good = dict(origin.contents)
    for path in ("a", "large"):
        cache = DatasetCache(tmp_path / path, origin)
        wrong = digest(CONTENTS[path])
        origin.contents = {**good, wrong: b"y" * len(CONTENTS[path])}
        with pytest.raises(Unavailable, match="digest"):
            await cache.materialize(ref)
    origin.contents = good
    assert contents(await cache.materialize(ref)) == CONTENTS
    other = origin.add("shop", 2, {"b": b"x"})
    origin.manifests[other.manifest] = origin.manifests[ref.manifest]
    with pytest.raises(Unavailable, match="digest"):
        await cache.materialize(other)


async def test_a_reader_that_writes_is_found_and_the_damage_repaired(cache: DatasetCache, origin: Origin) -> None:
    ref = origin.add("shop", 1, CONTENTS)
    folder = await cache.materialize(ref)
    before = (folder / "sub/b").stat()
    (folder / "sub/b").chmod(0o644)
    (folder / "sub/b").write_bytes(b"3" * 1000)
    os.utime(folder / "sub/b", ns=(before.st_atime_ns, before.st_mtime_ns))  # as if nothing had happened
    (folder / "sub").chmod(0o755)
    (folder / "sub" / "extra").write_text("more")
    (folder / "sub" / "deep").chmod(0o755)
    (folder / "sub" / "deep" / "c").unlink()
    (folder / "sub" / "deep" / "c").symlink_to("/etc/passwd")
    (folder / "a").chmod(0o600)  # its content is as it was
    origin.fetched.clear()
    assert contents(await cache.materialize(ref)) == CONTENTS
    assert sorted(origin.fetched) == ["sub/b", "sub/deep/c"]
    assert not (folder / "sub/deep/c").is_symlink()
    assert stat.S_IMODE((folder / "a").stat().st_mode) == 0o444
    assert origin.contents == {digest(data): data for data in CONTENTS.values()}


async def test_a_lost_index_costs_reading_not_fetching(cache: DatasetCache, origin: Origin) -> None:
    ref = origin.add("shop", 1, CONTENTS)
    folder = await cache.materialize(ref)
    (folder.parent / "index.json").write_text("[")
    (folder.parent / "manifest.json").write_text("{}")
    origin.fetched.clear()
    assert contents(await cache.materialize(ref)) == CONTENTS
    assert origin.fetched == []


async def test_what_another_version_has_is_copied_unless_it_is_damaged(cache: DatasetCache, origin: Origin) -> None:
    folder = await cache.materialize(origin.add("shop", 1, CONTENTS))
    (folder / "z").chmod(0o644)
    (folder / "z").write_bytes(b"evil")
    origin.fetched.clear()
    second = await cache.materialize(origin.add("shop", 2, {**CONTENTS, "new": b"n", "moved": CONTENTS["large"]}))
    assert sorted(origin.fetched) == ["new", "z"]
    assert (second / "moved").read_bytes() == CONTENTS["large"]
    assert (second / "a").stat().st_ino != (folder / "a").stat().st_ino


async def test_unused_versions_go_and_the_last_used_stay(cache: DatasetCache, origin: Origin) -> None:
    refs = [origin.add("shop", n, {"a": b"%d" % n}) for n in range(1, 5)]
    folders = [await cache.materialize(ref) for ref in refs]
    for age, folder in enumerate(reversed(folders)):
        os.utime(folder.parent, (1000 - age, 1000 - age))
    await cache.prune({refs[0].manifest}, keep=1)
    assert [folder.exists() for folder in folders] == [True, False, False, True]
    await cache.prune(set(), keep=0)
    assert not any(folder.exists() for folder in folders)


async def test_a_manifest_that_would_leave_the_folder_is_refused(cache: DatasetCache, origin: Origin) -> None:
    bad = DatasetManifest.model_construct(files=(DatasetFile(path="../escape", size_bytes=1, digest=digest(b"x")),))
    named = f"sha256:{content_hash(bad)}"
    origin.manifests[named] = bad
    with pytest.raises(Exception, match=r"'\.\.'"):
        await cache.materialize(DatasetVersionRef(dataset="shop", number=1, manifest=named))
