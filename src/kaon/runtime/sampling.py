"""Answers kept for a while, on request, to compare two revisions.

Calls are chosen by the hash of the request id, so that replicas of both revisions keep the same ones. Of an answer its
digest and its beginning are kept, never the body; bounded by bytes, in memory, readable on the control socket only.
"""

from __future__ import annotations

import hashlib
import time
import zlib
from collections import deque

from kaon.types.shadow import Kept, KeptAnswers, Sampling

HEAD_BYTES = 4096
KEPT_BYTES = 2 * 2**20
_ANSWER_BYTES = 512 * 1024
_OTHER_BYTES = 400
"""The size of a kept answer without its beginning: ids, digest, objects."""


class Sampler:
    """The answers that a replica keeps."""

    def __init__(self, sampling: Sampling) -> None:
        self._kept: deque[tuple[int, Kept]] = deque()
        self._bytes = 0
        self._count = 0
        self.renew(sampling)

    def renew(self, sampling: Sampling) -> None:
        """Keep that share of answers, for that time from now."""
        self._below = round(sampling.share * 2**32)
        self._until = time.monotonic() + sampling.for_s

    def add(self, request_id: str, endpoint: str, status: int, media_type: str, body: bytes) -> bool:
        """Keep an answer if its call is one of the share. Returns False when the sampling has expired."""
        if zlib.crc32(request_id.encode("latin-1", "replace")) < self._below:
            is_json = "json" in media_type
            kept = Kept(
                request_id=request_id,
                endpoint=endpoint,
                status=status,
                digest=hashlib.sha256(body).hexdigest(),
                head=body[:HEAD_BYTES].decode("utf-8", "replace") if is_json else "",
                whole=is_json and len(body) <= HEAD_BYTES,
            )
            self._count += 1
            self._kept.append((self._count, kept))
            self._bytes += _size(kept)
            while self._bytes > KEPT_BYTES:
                self._bytes -= _size(self._kept.popleft()[1])
        return not self.expired

    @property
    def expired(self) -> bool:
        """Whether its time is over."""
        return time.monotonic() >= self._until

    def after(self, number: int) -> KeptAnswers:
        """The answers after that number, oldest first, as many as fit into one response."""
        if number > self._count:
            number = 0  # a number of a previous sampler
        size, until = 0, number
        found: list[Kept] = []
        for count, kept in self._kept:
            if count <= number:
                continue
            size += _size(kept)
            if found and size > _ANSWER_BYTES:
                break
            found.append(kept)
            until = count
        return KeptAnswers(until=until, sampled=self._count, answers=tuple(found))


def _size(kept: Kept) -> int:
    return len(kept.head) + _OTHER_BYTES
