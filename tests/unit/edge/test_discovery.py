"""The stream of endpoints: bytes, messages, and what is sent when."""

from __future__ import annotations

import asyncio
import struct
import tempfile
from pathlib import Path
from typing import Any

import pytest
import uvloop
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    Event,
    PingAckReceived,
    ResponseReceived,
    StreamEnded,
    TrailersReceived,
)
from h2.settings import SettingCodes, Settings
from hypothesis import given
from hypothesis import strategies as st

from kaon.edge import messages
from kaon.edge.discovery import Discovery, SentEndpoints
from kaon.edge.http2 import MESSAGE_MAX_BYTES, GrpcStream
from kaon.edge.messages import ENDPOINTS, DiscoveryRequest
from kaon.edge.protobuf import fields, message, varint
from kaon.edge.resources import Json, endpoints
from kaon.types.route import ReplicaEndpoint

# --- bytes ---


@given(st.lists(st.tuples(st.integers(1, 2**20), st.one_of(st.integers(0, 2**63), st.binary(max_size=300)))))
def test_what_is_written_as_fields_is_read_as_the_same(content: list[tuple[int, int | bytes]]) -> None:
    text = b"".join(varint(n, v) if isinstance(v, int) else message(n, v) for n, v in content)
    assert list(fields(text)) == content


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        list(fields(data))
    except ValueError:
        return


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
ASKED = [
    (":method", "POST"),
    (":path", "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"),
    (":scheme", "http"),
    (":authority", "endpoints"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]


def grpc(text: bytes) -> bytes:
    return struct.pack("!BI", 0, len(text)) + text


class Peer:
    """A client of one connection, which records what it receives; h2 raises when it is sent more than it allows."""

    def __init__(self, connection: GrpcStream | None = None, window: int = 65_535) -> None:
        self.connection = connection or GrpcStream()
        self.http = H2Connection(H2Configuration(client_side=True, header_encoding="ascii"))
        self.http.local_settings = Settings(client=True, initial_values={SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.http.initiate_connection()
        self.heard: list[Event] = []

    def opens(self, stream: int = 1) -> Peer:
        self.http.send_headers(stream, ASKED)
        self.exchange()
        return self

    def exchange(self) -> list[bytes]:
        """Exchange bytes until neither side has more; returns the messages that arrived."""
        found = []
        while (content := self.http.data_to_send()) or (answer := self.connection.to_send()):
            if content:
                found += self.connection.receive(content)
            else:
                self.heard += self.http.receive_data(answer)
        return found

    def says(self, text: bytes) -> list[bytes]:
        """Send a message as the windows allow; what arrived of it."""
        found, left = [], grpc(text)
        while left:
            size = min(self.http.local_flow_control_window(1), self.http.max_outbound_frame_size)
            assert size > 0, "the window is not opened again"
            self.http.send_data(1, left[:size])
            left = left[size:]
            found += self.exchange()
        return found

    @property
    def data(self) -> bytes:
        return b"".join(event.data for event in self.heard if isinstance(event, DataReceived))


def opening(*messages: bytes) -> bytes:
    """The bytes of a client that opens a stream and sends these, before it receives anything."""
    peer = Peer()
    peer.http.send_headers(1, ASKED)
    for text in messages:
        peer.http.send_data(1, grpc(text))
    return peer.http.data_to_send()


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack("!BBI", kind, flags, stream) + payload


@given(st.lists(st.binary(max_size=400), max_size=5), st.lists(st.integers(1, 50), max_size=40))
def test_messages_arrive_whole_however_the_bytes_are_cut(texts: list[bytes], cuts: list[int]) -> None:
    wire = opening(*texts)
    connection, found = GrpcStream(), []
    for cut in [*cuts, len(wire)]:
        found += connection.receive(wire[:cut])
        wire = wire[cut:]
    assert found == texts


@given(st.binary(min_size=1, max_size=300), st.lists(st.integers(1, 60), max_size=12))
def test_never_more_is_sent_than_the_peer_allows_and_the_rest_follows(text: bytes, grants: list[int]) -> None:
    peer, allowed = Peer(window=10).opens(), 10
    peer.connection.send(text)
    for grant in [*grants, 1000]:
        peer.exchange()
        assert peer.data == grpc(text)[:allowed]
        peer.http.increment_flow_control_window(grant, 1)
        allowed += grant
    peer.exchange()
    assert peer.data == grpc(text)


def test_what_is_longer_than_a_frame_arrives_whole() -> None:
    peer = Peer(window=2**20).opens()
    peer.connection.send(b"x" * 50_000)
    peer.exchange()
    assert peer.data == grpc(b"x" * 50_000)


def test_messages_of_the_greatest_size_arrive_one_after_the_other() -> None:
    text = bytes(MESSAGE_MAX_BYTES)
    peer = Peer().opens()
    assert [peer.says(text), peer.says(text)] == [[text], [text]]


def test_the_head_says_grpc_and_comes_before_any_message() -> None:
    peer = Peer().opens()
    assert peer.data == b""
    heads = [event.headers for event in peer.heard if isinstance(event, ResponseReceived)]
    assert heads == [[(":status", "200"), ("content-type", "application/grpc")]]


def test_pings_are_answered_and_a_stream_that_ends_is_closed() -> None:
    peer = Peer().opens()
    peer.http.ping(b"12345678")
    peer.http.end_stream(1)
    peer.exchange()
    assert [event.ping_data for event in peer.heard if isinstance(event, PingAckReceived)] == [b"12345678"]
    assert [event.headers for event in peer.heard if isinstance(event, TrailersReceived)] == [[("grpc-status", "0")]]
    assert any(isinstance(event, StreamEnded) for event in peer.heard)
    peer.connection.send(b"late")
    assert peer.connection.to_send() == b""


def test_after_a_stream_that_ended_the_next_one_is_served() -> None:
    peer = Peer().opens()
    peer.http.end_stream(1)
    peer.exchange()
    peer.opens(3)
    peer.connection.send(b"new")
    peer.exchange()
    assert peer.data == grpc(b"new")


def test_a_stream_that_is_reset_makes_room_for_the_next_which_hears_nothing_of_it() -> None:
    peer = Peer(window=10).opens()
    peer.connection.send(b"more than the window")
    peer.http.send_data(1, grpc(b"half a message")[:9])
    peer.exchange()
    peer.http.reset_stream(1)
    peer.heard.clear()
    peer.opens(3)
    assert peer.connection.stream == 3
    peer.connection.send(b"new")
    peer.http.send_data(3, grpc(b"whole"))
    assert peer.exchange() == [b"whole"]
    assert peer.data == grpc(b"new")


def test_a_stream_that_is_opened_and_reset_at_once_is_not_answered() -> None:
    peer = Peer()
    peer.http.send_headers(1, ASKED)
    peer.http.send_data(1, grpc(b"nobody waits for an answer"))
    peer.http.reset_stream(1)
    assert peer.exchange() == []
    assert peer.connection.stream == 0


def test_a_peer_that_says_goodbye_is_sent_nothing_more() -> None:
    peer = Peer().opens()
    peer.http.close_connection()
    peer.exchange()
    peer.connection.send(b"late")
    assert (peer.connection.stream, peer.connection.to_send()) == (0, b"")


@pytest.mark.parametrize(
    ("wire", "why"),
    [
        (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", "preamble"),
        (opening() + frame(0, 0, 1, bytes(2**14 + 1)), "overlong frame"),
        (opening() + frame(0, 0, 1, struct.pack("!BI", 0, 2**31)), "too long"),
        (opening() + frame(0, 0, 1, struct.pack("!BI", 0, MESSAGE_MAX_BYTES + 1)), "too long"),
        (opening() + frame(0, 0, 1, struct.pack("!BI", 1, 0)), "compressed"),
        (opening() + frame(0, 0, 3, b"x"), "3"),
        (opening() + frame(1, 4, 3, b"\x83\x86\x84\x41\x01x"), "streams"),
        (opening() + frame(8, 0, 0, struct.pack("!I", 2**31 - 1)), "flow control window"),
    ],
    ids=[
        "http/1.1",
        "frame too long",
        "message too long",
        "message one byte too long",
        "compressed",
        "no such stream",
        "two streams at a time",
        "window too large",
    ],
)
def test_what_breaks_the_protocol_is_refused_and_sent_nothing_more(wire: bytes, why: str) -> None:
    connection = GrpcStream()
    with pytest.raises(ValueError, match=why):
        connection.receive(wire)
    connection.to_send()
    connection.send(b"late")
    assert connection.to_send() == b""


FRAMES = st.builds(
    frame, st.integers(0, 12), st.integers(0, 255), st.sampled_from((0, 1, 2, 3, 2**31)), st.binary(max_size=40)
)


@given(st.sampled_from((opening(), PREFACE)), st.lists(st.one_of(FRAMES, st.binary(max_size=30)), max_size=8))
def test_any_bytes_are_understood_or_refused(begin: bytes, wire: list[bytes]) -> None:
    connection = GrpcStream()
    try:
        for content in [begin, *wire]:
            connection.receive(content)
            connection.send(b"an answer")
            connection.to_send()
    except ValueError:
        connection.send(b"late")
    assert connection.stream >= 0


# --- what is sent ---


def replicas(cluster: str, count: int = 1) -> Json:
    found = tuple(
        ReplicaEndpoint(replica="r", revision=1, address=f"unix:/r{n}", control_address=None) for n in range(count)
    )
    return endpoints(cluster, found)


def request_of(*clusters: str, nonce: str = "", refusal: str = "") -> DiscoveryRequest:
    return DiscoveryRequest(ENDPOINTS, frozenset(clusters), nonce, refusal)


def content(texts: list[bytes]) -> list[tuple[str, list[str]]]:
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
    sent = SentEndpoints({"a": replicas("a"), "b": replicas("b"), "c": replicas("c")})
    assert content(sent.answer(request_of("a"))) == [("0", ["a"])]
    assert sent.answer(request_of("a", nonce="0")) == []
    assert content(sent.answer(request_of("a", "b", nonce="0"))) == [("1", ["b"])]
    assert sent.answer(request_of("a", "b", nonce="1")) == []
    sent.documents["a"] = replicas("a", 2)
    assert content(sent.changed(["a", "c"])) == [("2", ["a"])]
    assert sent.taken["a"] != sent.documents["a"]["version_info"]
    assert sent.answer(request_of("a", "b", nonce="2")) == []
    assert sent.taken["a"] == sent.documents["a"]["version_info"]


def test_a_cluster_that_is_made_anew_asks_again_and_is_told_again() -> None:
    sent = SentEndpoints({"a": replicas("a")})
    sent.answer(request_of("a"))
    sent.answer(request_of("a", nonce="0"))
    assert content(sent.answer(request_of("a", nonce="0"))) == [("1", ["a"])]


def test_a_cluster_that_goes_is_no_reason_to_tell_the_others_again() -> None:
    sent = SentEndpoints({"a": replicas("a"), "b": replicas("b")})
    sent.answer(request_of("a", "b"))
    sent.answer(request_of("a", "b", nonce="0"))
    assert sent.answer(request_of("a", nonce="0")) == []


def test_nothing_is_said_of_clusters_that_are_not_known() -> None:
    sent = SentEndpoints({})
    assert sent.answer(request_of("a")) == []
    sent.documents["a"] = replicas("a")
    assert content(sent.changed(["a"])) == [("0", ["a"])]


def test_what_is_refused_together_is_sent_one_by_one_until_it_is_known_which_is_bad() -> None:
    sent = SentEndpoints({"a": replicas("a"), "b": replicas("b")})
    sent.answer(request_of("a", "b"))
    assert content(sent.answer(request_of("a", "b", nonce="0", refusal="no"))) == [("1", ["a"]), ("2", ["b"])]
    sent.answer(request_of("a", "b", nonce="1"))
    sent.answer(request_of("a", "b", nonce="2", refusal="b is bad"))
    assert sent.taken.keys() == {"a"}
    assert sent.refused == {"b": (sent.documents["b"]["version_info"], "b is bad")}


def test_requests_are_read_with_their_reasons() -> None:
    text = message(3, "a") + message(4, ENDPOINTS) + message(5, "7") + message(6, varint(1, 13) + message(2, "bad"))
    assert messages.request(text) == DiscoveryRequest(ENDPOINTS, frozenset("a"), "7", "bad")


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
    requested = message(3, "a") + message(4, ENDPOINTS)
    writer.write(opening(requested))
    received = b""
    async with asyncio.timeout(10):
        while b"ClusterLoadAssignment" not in received:
            received += await reader.read(4096)
        assert discovery.subscribed
        assert discovery.behind == {"a"}
        confirmed = grpc(message(3, "a") + message(4, ENDPOINTS) + message(5, "0"))
        writer.write(frame(0, 0, 1, confirmed) + frame(6, 0, 0, b"12345678"))
        while b"12345678" not in received:
            received += await reader.read(4096)
    assert discovery.behind == set()
    discovery.close()
    writer.close()
