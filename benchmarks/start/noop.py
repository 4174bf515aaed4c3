"""The smallest service."""

from __future__ import annotations

import kaon


@kaon.service
class Noop:
    """Answers with its argument."""

    @kaon.endpoint(method="GET", path="/")
    def ping(self, x: int = 1) -> int:
        return x
