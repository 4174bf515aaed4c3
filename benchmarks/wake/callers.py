"""Many callers in one thread, at little cost: bytes made beforehand, connections that are open already."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """What became of one call."""

    status: int
    """0: there was no answer."""
    waited_s: float
    answered_at: float
    """Epoch seconds."""


def burst(address: tuple[str, int], requests: Sequence[bytes], within_s: float = 60.0) -> list[Outcome]:
    """Send every request at once, each on a connection of its own that is open already; what became of each."""
    waiting = selectors.DefaultSelector()
    outcomes: list[Outcome] = [Outcome(0, within_s, 0.0)] * len(requests)
    clients = [socket.create_connection(address) for _ in requests]
    try:
        began = [_send(client, request) for client, request in zip(clients, requests, strict=True)]
        for number, client in enumerate(clients):
            waiting.register(client, selectors.EVENT_READ, number)
        ends_at = time.monotonic() + within_s
        while waiting.get_map() and (left_s := ends_at - time.monotonic()) > 0:
            for key, _ in waiting.select(left_s):
                waiting.unregister(key.fileobj)
                answer, now = _read(clients[key.data]), time.monotonic()
                outcomes[key.data] = Outcome(_status(answer), now - began[key.data], time.time())
    finally:
        waiting.close()
        for client in clients:
            client.close()
    return outcomes


def _send(client: socket.socket, request: bytes) -> float:
    began = time.monotonic()
    client.sendall(request)
    return began


def _read(client: socket.socket) -> bytes:
    """The answer's first bytes: with answers as short as here, all of it."""
    try:
        return client.recv(65536)
    except OSError:
        return b""


def _status(answer: bytes) -> int:
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0
