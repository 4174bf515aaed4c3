"""What the edge allows: its own defaults, since Envoy's suit a trusted mesh."""

from __future__ import annotations

HEADERS_MAX_KB = 60
HEADERS_WITHIN_S = 2
REQUEST_WITHIN_S = 300
"""A request's body must be here by then, unless its answer has begun."""
IDLE_S = 60
SILENT_S = 10
"""A client that has connected sends something by then."""
STREAM_IDLE_S = 3600
BODY_MAX_BYTES = 100 * 10**6
"""Of a body whose length is announced. A body in chunks passes as it comes, and the replica counts it."""
BUFFER_BYTES = 256 * 1024
CONNECTIONS_MAX = 10_000
HEAP_MAX_BYTES = 512 * 2**20
SHADOW_CALLS = 100
"""Copies that may be on their way at once; more are not made."""
SHADOW_BODY_BYTES = 1_000_000
"""A call with a larger body is not copied."""
PATTERN_MAX = 8192
"""How large a compiled pattern may be, in RE2's instructions. A character of a path is one, a parameter four; the edge
takes paths of 1,024 characters. Envoy's own default is 100, and a route above it would take all routes with it."""
