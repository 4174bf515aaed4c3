"""The entity tag of a resource: what `ETag` of a GET says and `If-Match` of a change gives back.

It names the resource and its spec: it changes when somebody changes the spec, and when the name is used again. The
status, which the platform writes all the time, does not change it.
"""

from __future__ import annotations


def etag(uid: str, generation: int) -> str:
    """The tag, with its quotes."""
    return f'"{uid}.{generation}"'
