"""Uploads that are continued: what arrives stays, and what is complete has its digest."""

from __future__ import annotations

import asyncio
import resource
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaon.clock import FakeClock
from kaon.errors import Conflict, DiskFull, InvalidInput, NotFound
from kaon.store.uploads import IDLE_S, UploadBounds, Uploads, UploadsFull, UploadState
from kaon.testing.blobs import chunks_of, digest_of

DATA = secrets.token_bytes(3 * 2**20 + 5)
DIGEST = digest_of(DATA)
MANY = UploadBounds(count=100, size_bytes=2**30, age_s=86_400)


def uploads_in(folder: Path, bounds: UploadBounds = MANY, clock: FakeClock | None = None) -> Uploads:
    return Uploads(folder / "uploads", bounds, clock or FakeClock())


async def send(
    uploads: Uploads, data: bytes = DATA, owner: str = "one", cut_at: int | None = None, offset: int = 0
) -> UploadState:
    """Send a file's bytes from `offset`; with `cut_at` the connection breaks there."""
    cut = ConnectionResetError() if cut_at is not None else None
    parts = [data[at : min(at + 100_000, cut_at or len(data))] for at in range(offset, cut_at or len(data), 100_000)]
    return await uploads.append(
        owner, digest_of(data), chunks_of(*parts, then=cut), offset=offset, size_bytes=len(data)
    )


async def bytes_in(uploads: Uploads, digest: str, owner: str = "one") -> bytes:
    async with uploads.use(owner, digest) as file:
        return file.read_bytes()


async def test_bytes_that_arrived_at_once_are_used_once(tmp_path: Path) -> None:
    uploads = uploads_in(tmp_path)
    assert await send(uploads) == UploadState(len(DATA), is_complete=True)
    assert await bytes_in(uploads, DIGEST) == DATA
    assert await uploads.state("one", DIGEST) == UploadState()
    assert [path for path in (tmp_path / "uploads").rglob("*") if path.is_file()] == []
    with pytest.raises(NotFound):
        await bytes_in(uploads, DIGEST)


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("cut_at", [1, 2**20, 2**20 + 1, len(DATA) - 1])
async def test_a_cut_upload_continues_where_it_stopped(tmp_path: Path, cut_at: int, restarted: bool) -> None:
    uploads = uploads_in(tmp_path)
    with pytest.raises(ConnectionResetError):
        await send(uploads, cut_at=cut_at)
    if restarted:
        uploads = uploads_in(tmp_path)
    assert await uploads.state("one", DIGEST) == UploadState(cut_at)
    with pytest.raises(NotFound):
        await bytes_in(uploads, DIGEST)
    assert (await send(uploads, offset=cut_at)).is_complete
    assert await bytes_in(uploads, DIGEST) == DATA


async def test_a_complete_upload_is_complete_after_a_restart_and_when_it_is_sent_again(tmp_path: Path) -> None:
    await send(uploads_in(tmp_path))
    uploads = uploads_in(tmp_path)
    assert await send(uploads) == UploadState(len(DATA), is_complete=True)
    assert await bytes_in(uploads, DIGEST) == DATA


async def test_no_bytes_are_a_file_too(tmp_path: Path) -> None:
    uploads = uploads_in(tmp_path)
    assert await send(uploads, b"") == UploadState(0, is_complete=True)
    assert await bytes_in(uploads, digest_of(b"")) == b""


async def test_bytes_of_two_files_are_never_mixed(tmp_path: Path) -> None:
    uploads, other = uploads_in(tmp_path), secrets.token_bytes(len(DATA))
    with pytest.raises(ConnectionResetError):
        await send(uploads, cut_at=2**20)
    with pytest.raises(InvalidInput, match="do not have the digest"):
        await uploads.append("one", DIGEST, chunks_of(other[2**20 :]), offset=2**20, size_bytes=len(DATA))
    assert await uploads.state("one", DIGEST) == UploadState()
    assert (await send(uploads)).is_complete


async def test_an_upload_that_was_changed_on_the_disk_is_found_out(tmp_path: Path) -> None:
    uploads = uploads_in(tmp_path)
    with pytest.raises(ConnectionResetError):
        await send(uploads, cut_at=2**20)
    (part,) = (tmp_path / "uploads" / "one").iterdir()
    part.write_bytes(DATA[: 2**19])
    with pytest.raises(InvalidInput, match="do not have the digest"):
        await send(uploads, offset=2**20)


@pytest.mark.parametrize("offset", [1, 2**20 - 1, 2**20 + 1])
async def test_a_gap_and_an_overlap_are_refused_and_cost_nothing(tmp_path: Path, offset: int) -> None:
    uploads = uploads_in(tmp_path)
    with pytest.raises(ConnectionResetError):
        await send(uploads, cut_at=2**20)
    with pytest.raises(Conflict, match="1048576 bytes"):
        await send(uploads, offset=offset)
    assert (await send(uploads, offset=2**20)).is_complete


async def test_an_upload_can_begin_anew(tmp_path: Path) -> None:
    uploads = uploads_in(tmp_path)
    with pytest.raises(ConnectionResetError):
        await send(uploads, cut_at=2**20)
    assert (await send(uploads)).is_complete
    assert await bytes_in(uploads, DIGEST) == DATA


async def test_more_bytes_than_declared_are_refused(tmp_path: Path) -> None:
    uploads = uploads_in(tmp_path)
    with pytest.raises(InvalidInput, match="more than the declared"):
        await uploads.append("one", DIGEST, chunks_of(DATA), offset=0, size_bytes=len(DATA) - 1)
    assert await uploads.state("one", DIGEST) == UploadState()


@pytest.mark.parametrize("digest", ["", "sha256:", "../secret.key", f"sha256:{'A' * 64}", "0" * 64])
@pytest.mark.parametrize("owner", ["one", "..", "", "a/b"])
async def test_no_name_leads_out_of_the_folder(tmp_path: Path, digest: str, owner: str) -> None:
    with pytest.raises(InvalidInput):
        await uploads_in(tmp_path).append(owner, digest, chunks_of(b"x"), offset=0, size_bytes=1)


async def test_a_workspace_neither_sees_nor_uses_nor_continues_the_uploads_of_another_one(tmp_path: Path) -> None:
    uploads = uploads_in(tmp_path)
    await send(uploads)
    assert await uploads.state("two", DIGEST) == UploadState()
    with pytest.raises(NotFound):
        await bytes_in(uploads, DIGEST, owner="two")
    with pytest.raises(Conflict):
        await send(uploads, owner="two", offset=2**20)


class Hanging(NamedTuple):
    """A request whose client is silent."""

    task: asyncio.Task[Any]
    go_on: asyncio.Event


async def hanging(uploads: Uploads, before: bytes, after: bytes) -> Hanging:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield before
        arrived.set()
        await go_on.wait()
        if after:
            yield after

    task = asyncio.ensure_future(uploads.append("one", DIGEST, chunks(), offset=0, size_bytes=len(DATA)))
    await arrived.wait()
    return Hanging(task, go_on)


@pytest.mark.parametrize("after", [DATA[2**20 :], secrets.token_bytes(2**21), b""])
async def test_a_later_request_takes_over_from_one_that_hangs(tmp_path: Path, after: bytes) -> None:
    uploads = uploads_in(tmp_path)
    earlier = await hanging(uploads, DATA[: 2**20], after)
    assert await uploads.state("one", DIGEST) == UploadState(2**20)
    assert (await send(uploads, offset=2**20)).is_complete
    earlier.go_on.set()
    with pytest.raises(Conflict, match="later request"):
        await earlier.task
    assert await bytes_in(uploads, DIGEST) == DATA


async def test_an_earlier_request_that_goes_on_while_a_later_one_is_under_way_writes_nothing(tmp_path: Path) -> None:
    uploads = uploads_in(tmp_path)
    earlier = await hanging(uploads, DATA[: 2**20], secrets.token_bytes(2**21))
    later = await hanging(uploads, DATA[: 2**20], DATA[2**20 :])
    earlier.go_on.set()
    with pytest.raises(Conflict):
        await earlier.task
    later.go_on.set()
    assert (await later.task).is_complete
    assert await bytes_in(uploads, DIGEST) == DATA


async def test_a_cancelled_request_keeps_what_arrived(tmp_path: Path) -> None:
    uploads = uploads_in(tmp_path)
    request = await hanging(uploads, DATA[:500_000], b"")
    request.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request.task
    assert await uploads.state("one", DIGEST) == UploadState(500_000)
    assert (await send(uploads, offset=500_000)).is_complete


async def test_requests_at_the_same_time_end_with_one_file(tmp_path: Path) -> None:
    uploads = uploads_in(tmp_path)
    ends = await asyncio.gather(*(send(uploads) for _ in range(8)), return_exceptions=True)
    assert UploadState(len(DATA), is_complete=True) in ends
    assert all(isinstance(end, Conflict | UploadState) for end in ends)
    assert await bytes_in(uploads, DIGEST) == DATA


async def test_an_upload_stays_when_what_was_to_be_made_of_it_fails(tmp_path: Path) -> None:
    uploads = uploads_in(tmp_path)
    await send(uploads)
    with pytest.raises(ZeroDivisionError):
        async with uploads.use("one", DIGEST):
            _ = 1 / 0
    assert await bytes_in(uploads, DIGEST) == DATA


async def test_two_users_at_once_both_find_the_file(tmp_path: Path) -> None:
    uploads = uploads_in(tmp_path)
    await send(uploads)
    async with uploads.use("one", DIGEST) as first:
        async with uploads.use("one", DIGEST) as second:
            assert second.read_bytes() == DATA
        assert first.read_bytes() == DATA
    assert not first.exists()


# Bounds


async def test_at_the_bound_of_their_number_idle_uploads_make_room_and_others_do_not(tmp_path: Path) -> None:
    clock = FakeClock()
    uploads = uploads_in(tmp_path, UploadBounds(count=2, size_bytes=2**30, age_s=86_400), clock)
    await send(uploads, b"a")
    clock.jump(1)
    await send(uploads, b"b")
    with pytest.raises(UploadsFull, match="2 unused uploads"):
        await send(uploads, b"c")
    await send(uploads, b"b", owner="two")
    clock.jump(IDLE_S)
    await send(uploads, b"b")  # it is one of the two
    await send(uploads, b"c")
    assert await uploads.state("one", digest_of(b"a")) == UploadState()
    assert (await uploads.state("one", digest_of(b"b"))).is_complete


async def test_their_bytes_are_bounded_with_those_that_are_still_to_come(tmp_path: Path) -> None:
    clock = FakeClock()
    uploads = uploads_in(tmp_path, UploadBounds(count=100, size_bytes=len(DATA) + 10, age_s=86_400), clock)
    request = await hanging(uploads, DATA[:1], DATA[1:])
    with pytest.raises(UploadsFull):
        await send(uploads, b"x" * 11)
    await send(uploads, b"x" * 10)
    clock.jump(2 * IDLE_S)
    with pytest.raises(UploadsFull):  # what is under way makes no room
        await send(uploads, b"y" * 21)
    request.go_on.set()
    assert (await request.task).is_complete


async def test_uploads_are_collected_when_they_got_no_bytes_for_too_long(tmp_path: Path) -> None:
    clock = FakeClock()
    uploads = uploads_in(tmp_path, clock=clock)
    await send(uploads, b"old")
    with pytest.raises(ConnectionResetError):
        await send(uploads, b"half", cut_at=2)
    running = await hanging(uploads, DATA[:1], DATA[1:])
    clock.jump(86_399)
    assert await uploads.collect() == []
    clock.jump(1)
    assert sorted(await uploads.expired()) == [2, 3]
    assert sorted(await uploads.collect()) == [2, 3]
    assert await uploads.expired() == []
    running.go_on.set()
    assert (await running.task).is_complete


async def test_a_file_that_does_not_fit_on_the_disk_is_refused_before_its_bytes_are_read(tmp_path: Path) -> None:
    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("the bytes were read")
        yield b""

    size = shutil.disk_usage(tmp_path).total
    uploads = uploads_in(tmp_path, UploadBounds(count=2, size_bytes=2**60, age_s=1))
    with pytest.raises(DiskFull, match=f"needs {size} bytes"):
        await uploads.append("one", DIGEST, never(), offset=0, size_bytes=size)


async def test_a_disk_that_gets_full_keeps_what_was_written(tmp_path: Path) -> None:
    uploads = uploads_in(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20 + 2**19, limits[1]))  # no file can be larger
    try:
        with pytest.raises(DiskFull, match="disk is full"):
            await send(uploads)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    received = (await uploads.state("one", DIGEST)).received_bytes
    assert 2**20 <= received < 2**20 + 2**19
    assert (await send(uploads, offset=received)).is_complete


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 2), st.integers(0, 40)),
        st.tuples(st.just("wrong"), st.integers(0, 2), st.integers(0, 40)),
        st.tuples(st.just("restart"), st.just(0), st.just(0)),
        st.tuples(st.just("anew"), st.integers(0, 2), st.integers(0, 40)),
    ),
    max_size=12,
)
FILES = [bytes([number]) * 30 for number in range(3)]


@given(ACTIONS)
@settings(max_examples=60, deadline=None)
def test_whatever_happens_what_is_complete_has_its_digest_and_a_right_sender_ends(actions: Any) -> None:
    async def run(folder: Path) -> None:
        uploads = uploads_in(folder)
        for action, number, length in actions:
            data, digest = FILES[number], digest_of(FILES[number])
            if action == "restart":
                uploads = uploads_in(folder)
                continue
            state = await uploads.state("one", digest)
            offset = 0 if action == "anew" else state.received_bytes
            sent = (b"?" * 30 if action == "wrong" else data)[offset : offset + length]
            try:
                await uploads.append("one", digest, chunks_of(sent), offset=offset, size_bytes=30)
            except InvalidInput:
                assert await uploads.state("one", digest) == UploadState()
        for data in FILES:
            state = await uploads.state("one", digest_of(data))
            try:
                await send(uploads, data, offset=0 if state.is_complete else state.received_bytes)
            except InvalidInput:  # it had wrong bytes from before
                await send(uploads, data)
            assert await bytes_in(uploads, digest_of(data)) == data

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))
