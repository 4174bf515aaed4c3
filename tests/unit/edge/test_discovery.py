"""The stream of endpoints: bytes, messages, and what is told to whom."""

from __future__ import annotations

import asyncio
import struct
import tempfile
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from kaon.edge import messages
from kaon.edge.discovery import Discovery, Told
from kaon.edge.http2 import PREFACE, GrpcStream
from kaon.edge.messages import ENDPOINTS, Request
from kaon.edge.protobuf import fields, message, varint
from kaon.edge.resources import Json, endpoints
from kaon.types.route import Endpoint

# --- bytes ---


@given(st.lists(st.tuples(st.integers(1, 2**20), st.one_of(st.integers(0, 2**63), st.binary(max_size=300)))))
def test_what_is_written_as_fields_is_read_as_the_same(said: list[tuple[int, int | bytes]]) -> None:
    text = b"".join(varint(n, v) if isinstance(v, int) else message(n, v) for n, v in said)
    assert list(fields(text)) == said


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        list(fields(data))
    except ValueError:
        return


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack("!BBI", kind, flags, stream) + payload


def frames(data: bytes) -> list[tuple[int, int, int, bytes]]:
    found = []
    while data:
        length = int.from_bytes(data[:3], "big")
        found.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + length]))
        data = data[9 + length :]
    return found


def grpc(text: bytes) -> bytes:
    return struct.pack("!BI", 0, len(text)) + text


def opened(window: int = 65_535) -> GrpcStream:
    connection = GrpcStream()
    connection.receive(PREFACE + frame(4, 0, 0, struct.pack("!HI", 4, window)) + frame(1, 4, 1, b"head"))
    connection.to_send()
    return connection


@given(st.lists(st.binary(max_size=400), max_size=5), st.lists(st.integers(1, 50), max_size=40))
def test_messages_arrive_whole_however_the_bytes_are_cut(texts: list[bytes], cuts: list[int]) -> None:
    wire = PREFACE + frame(4, 0, 0) + frame(1, 4, 1, b"head") + b"".join(frame(0, 0, 1, grpc(t)) for t in texts)
    connection, found = GrpcStream(), []
    for cut in [*cuts, len(wire)]:
        found += connection.receive(wire[:cut])
        wire = wire[cut:]
    assert found == texts


@given(st.binary(min_size=1, max_size=300), st.lists(st.integers(1, 60), max_size=12))
def test_never_more_is_sent_than_the_peer_allows_and_the_rest_follows(text: bytes, grants: list[int]) -> None:
    connection, sent, allowed = opened(window=10), b"", 10
    connection.send(text)
    for grant in [*grants, 1000]:
        sent += b"".join(payload for kind, _, _, payload in frames(connection.to_send()) if kind == 0)
        assert len(sent) <= allowed
        connection.receive(frame(8, 0, 1, struct.pack("!I", grant)))
        allowed += grant
    sent += b"".join(payload for kind, _, _, payload in frames(connection.to_send()) if kind == 0)
    assert sent == grpc(text)


def test_what_was_read_may_be_sent_again() -> None:
    connection = opened()
    connection.receive(frame(0, 0, 1, grpc(b"x" * 95)))
    grown = [(stream, payload) for kind, _, stream, payload in frames(connection.to_send()) if kind == 8]
    assert grown == [(0, struct.pack("!I", 100)), (1, struct.pack("!I", 100))]


def test_pings_are_answered_and_a_stream_that_ends_is_closed() -> None:
    connection = opened()
    connection.receive(frame(6, 0, 0, b"12345678") + frame(0, 1, 1))
    answers = frames(connection.to_send())
    assert (6, 1, 0, b"12345678") in answers
    assert answers[-1][:3] == (1, 5, 1)
    connection.send(b"late")
    assert connection.to_send() == b""


@pytest.mark.parametrize(
    "wire",
    [
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        PREFACE + b"\xff\xff\xff" + frame(0, 0, 1)[3:],
        PREFACE + frame(1, 4, 1) + frame(0, 0, 1, struct.pack("!BI", 0, 2**31)),
        PREFACE + frame(1, 4, 1) + frame(0, 0, 1, struct.pack("!BI", 1, 0)),
    ],
    ids=["http/1.1", "frame too long", "message too long", "compressed"],
)
def test_what_breaks_the_protocol_is_refused(wire: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        GrpcStream().receive(wire)


# --- what is told ---


def replicas(cluster: str, count: int = 1) -> Json:
    found = tuple(Endpoint(replica="r", revision=1, address=f"unix:/r{n}", control_address=None) for n in range(count))
    return endpoints(cluster, found)


def asks(*clusters: str, nonce: str = "", refusal: str = "") -> Request:
    return Request(ENDPOINTS, frozenset(clusters), nonce, refusal)


def said(texts: list[bytes]) -> list[tuple[str, list[str]]]:
    """Nonce and clusters of each answer."""
    found = []
    for text in texts:
        parts = list(fields(text))
        nonce = next(v for n, v in parts if n == 5)
        assignments = [dict(fields(v))[2] for n, v in parts if n == 2 and isinstance(v, bytes)]
        names = [dict(fields(a))[1] for a in assignments if isinstance(a, bytes)]
        assert isinstance(nonce, bytes)
        found.append((nonce.decode(), [name.decode() for name in names if isinstance(name, bytes)]))
    return found


def test_envoy_is_told_what_it_asks_for_and_then_only_what_changes() -> None:
    told = Told({"a": replicas("a"), "b": replicas("b"), "c": replicas("c")})
    assert said(told.answer(asks("a"))) == [("0", ["a"])]
    assert told.answer(asks("a", nonce="0")) == []
    assert said(told.answer(asks("a", "b", nonce="0"))) == [("1", ["b"])]
    assert told.answer(asks("a", "b", nonce="1")) == []
    told.documents["a"] = replicas("a", 2)
    assert said(told.changed(["a", "c"])) == [("2", ["a"])]
    assert told.taken["a"] != told.documents["a"]["version_info"]
    assert told.answer(asks("a", "b", nonce="2")) == []
    assert told.taken["a"] == told.documents["a"]["version_info"]


def test_a_cluster_that_is_made_anew_asks_again_and_is_told_again() -> None:
    told = Told({"a": replicas("a")})
    told.answer(asks("a"))
    told.answer(asks("a", nonce="0"))
    assert said(told.answer(asks("a", nonce="0"))) == [("1", ["a"])]


def test_a_cluster_that_goes_is_no_reason_to_tell_the_others_again() -> None:
    told = Told({"a": replicas("a"), "b": replicas("b")})
    told.answer(asks("a", "b"))
    told.answer(asks("a", "b", nonce="0"))
    assert told.answer(asks("a", nonce="0")) == []


def test_nothing_is_said_of_clusters_that_are_not_known() -> None:
    told = Told({})
    assert told.answer(asks("a")) == []
    told.documents["a"] = replicas("a")
    assert said(told.changed(["a"])) == [("0", ["a"])]


def test_what_is_refused_together_is_sent_one_by_one_until_it_is_known_which_is_bad() -> None:
    told = Told({"a": replicas("a"), "b": replicas("b")})
    told.answer(asks("a", "b"))
    assert said(told.answer(asks("a", "b", nonce="0", refusal="no"))) == [("1", ["a"]), ("2", ["b"])]
    told.answer(asks("a", "b", nonce="1"))
    told.answer(asks("a", "b", nonce="2", refusal="b is bad"))
    assert told.taken.keys() == {"a"}
    assert told.refused == {"b": (told.documents["b"]["version_info"], "b is bad")}


def test_requests_are_read_with_their_reasons() -> None:
    text = message(3, "a") + message(4, ENDPOINTS) + message(5, "7") + message(6, varint(1, 13) + message(2, "bad"))
    assert messages.request(text) == Request(ENDPOINTS, frozenset("a"), "7", "bad")


# --- the server ---


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_the_socket_is_private_and_answers_under_either_loop(loop: Any) -> None:
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=loop) as runner:
        runner.run(_ask_once(Path(folder) / "s.sock"))


async def _ask_once(socket: Path) -> None:
    discovery = Discovery(socket)
    discovery.put({"a": replicas("a")})
    await discovery.start()
    assert socket.stat().st_mode & 0o777 == 0o600
    reader, writer = await asyncio.open_unix_connection(str(socket))
    asked = grpc(message(3, "a") + message(4, ENDPOINTS))
    writer.write(PREFACE + frame(4, 0, 0) + frame(1, 4, 1, b"head") + frame(0, 0, 1, asked))
    received = b""
    async with asyncio.timeout(10):
        while b"ClusterLoadAssignment" not in received:
            received += await reader.read(4096)
        assert discovery.asked
        assert discovery.behind == {"a"}
        confirmed = grpc(message(3, "a") + message(4, ENDPOINTS) + message(5, "0"))
        writer.write(frame(0, 0, 1, confirmed) + frame(6, 0, 0, b"12345678"))
        while b"12345678" not in received:
            received += await reader.read(4096)
    assert discovery.behind == set()
    discovery.close()
    writer.close()
