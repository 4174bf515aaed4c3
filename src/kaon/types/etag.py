"""The entity tag of a resource: the `ETag` of a GET, which `If-Match` of a change repeats.

It identifies the resource and its spec: it changes when the spec changes, and when the name is used again. The
status, which the platform writes all the time, does not change it.
"""

from __future__ import annotations


def etag(uid: str, generation: int) -> str:
    """The tag, with its quotes."""
    return f'"{uid}.{generation}"'
