"""The service that is woken: it starts as quickly as a replica can, and counts its calls."""

from __future__ import annotations

import os

import kaon


@kaon.service
class Tiny:
    """Does next to nothing."""

    def __init__(self) -> None:
        self._marks = os.open(kaon.data_dir() / "marks", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    @kaon.endpoint(method="GET", path="/")
    async def look(self) -> str:
        """May be sent again."""
        return "looked"

    @kaon.endpoint
    async def mark(self, text: str) -> str:
        """Must not happen twice: each run leaves a line."""
        os.write(self._marks, f"{text}\n".encode())
        return text
