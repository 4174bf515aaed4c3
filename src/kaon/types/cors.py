"""What pages of other origins may send and read, once a deployment allows their origin.

They may send what any other caller may, and read all that comes back. Keys are in headers, so cookies are allowed only
where the deployment says so; then a star stands for no header, and `cors.headers` names those of one's own.
"""

from __future__ import annotations

from kaon.types.route import REVISION_HEADER

METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

SENT = (
    "authorization, content-type, idempotency-key, last-event-id, x-request-id, x-request-timeout, "
    f"{REVISION_HEADER}, *"
)
"""Headers of requests. The star stands for all but `authorization`; browsers that do not know it find the usual ones by
name."""

EXPOSED = "x-request-id, retry-after, allow, content-disposition, location, www-authenticate, *"
"""Headers of answers."""

MAX_AGE_S = 600
