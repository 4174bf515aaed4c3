"""Answers kept for a while, so that two revisions' can be compared; only while somebody asks for it.

Which calls are kept is decided by the hash of the request id, so that replicas on both sides keep the same ones.
What is kept is bounded, in memory only, and told on the control socket alone.
"""

from __future__ import annotations

import hashlib
import time
import zlib
from collections import deque

from kaon.types.shadow import Kept, KeptAnswers, Sampling

KEPT = 512
HEAD_BYTES = 4096
_TOLD_BYTES = 512 * 1024


class Sampler:
    """The answers that a replica keeps."""

    def __init__(self, sampling: Sampling) -> None:
        self._kept: deque[tuple[int, str, str, int, bool, bytes]] = deque(maxlen=KEPT)
        self._count = 0
        self.renew(sampling)

    def renew(self, sampling: Sampling) -> None:
        """Go on, with this share, for so long."""
        self._below = round(sampling.share * 2**32)
        self._until = time.monotonic() + sampling.for_s

    def note(self, request_id: str, endpoint: str, status: int, media_type: str, body: bytes) -> bool:
        """Keep an answer, when its call is one of the share; whether this sampler is still wanted."""
        if zlib.crc32(request_id.encode("latin-1", "replace")) < self._below:
            self._count += 1
            self._kept.append((self._count, request_id, endpoint, status, "json" in media_type, body))
        return time.monotonic() < self._until

    def after(self, number: int) -> KeptAnswers:
        """The answers after that number, oldest first, as many as fit into one answer."""
        if number > self._count:
            number = 0  # of a sampler before this one
        size, until = 0, number
        found: list[Kept] = []
        for count, request_id, endpoint, status, is_json, body in self._kept:
            if count <= number:
                continue
            head = body[:HEAD_BYTES].decode("utf-8", "replace") if is_json else ""
            size += len(head) + 200
            if found and size > _TOLD_BYTES:
                break
            found.append(
                Kept(
                    request_id=request_id,
                    endpoint=endpoint,
                    status=status,
                    digest=hashlib.sha256(body).hexdigest(),
                    head=head,
                    whole=is_json and len(body) <= HEAD_BYTES,
                )
            )
            until = count
        return KeptAnswers(until=until, sampled=self._count, answers=tuple(found))
