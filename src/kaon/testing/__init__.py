"""Parts for tests: a service over HTTP (`kaon.testing.client`), and the contract of drivers."""

from __future__ import annotations

from kaon.testing.service import ServiceClient, client

__all__ = ["ServiceClient", "client"]
