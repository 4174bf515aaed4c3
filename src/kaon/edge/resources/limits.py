"""Limits of the edge: Envoy's own defaults are for a trusted mesh."""

from __future__ import annotations

HEADERS_MAX_KB = 60
HEADERS_WITHIN_S = 2
REQUEST_WITHIN_S = 300
"""Time limit for a request's body, unless its answer has begun."""
IDLE_S = 60
SILENT_S = 10
"""Time limit for the first bytes of a client."""
STREAM_IDLE_S = 3600
BODY_MAX_BYTES = 100 * 10**6
"""The most bytes of a body with a content-length. A body in chunks is forwarded, and the replica counts its bytes."""
BUFFER_BYTES = 256 * 1024
CONNECTIONS_MAX = 10_000
HEAP_MAX_BYTES = 512 * 2**20
SHADOW_CALLS = 100
"""The most copies in flight; more are not made."""
SHADOW_BODY_BYTES = 1_000_000
"""A call with a larger body is not copied."""
PATTERN_MAX = 8192
"""The most instructions of RE2 in a compiled pattern. A character of a path is one, a parameter four; paths may have
1,024 characters. Envoy's own default is 100, and a route above it would invalidate all routes."""
