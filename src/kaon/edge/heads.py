"""The head of a request, read from the bytes that the edge sends to an activator.

Only what decides whether a call may wait is read; the bytes themselves go to the replica as they came.
"""

from __future__ import annotations

from dataclasses import dataclass

import httptools

from kaon.errors import InvalidInput, TooLarge

HEAD_MAX_BYTES = 96 * 1024
"""More than the edge lets through (60 KiB of headers, and the path), with what it adds itself."""


@dataclass(frozen=True, slots=True)
class Head:
    """Method, path without its query, and headers by lower-case name; of one given twice, the last."""

    method: bytes
    path: bytes
    fields: dict[bytes, bytes]


class HeadReader:
    """Reads one head. `feed` it until it answers."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._method = b""
        self._url = b""
        self._fields: dict[bytes, bytes] = {}
        self._complete = False
        self._fed = 0

    def feed(self, received: bytes) -> Head | None:
        """The head, once all of it is here. What follows it is not looked at.

        Raises `InvalidInput` for what is no request, `TooLarge` for one that does not end.
        """
        try:
            self._parser.feed_data(received)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            if not self._complete:
                raise InvalidInput("The request is malformed.", hint="Check its line and headers.") from error
        if self._complete:
            return Head(self._method, self._url.partition(b"?")[0], self._fields)
        self._fed += len(received)
        if self._fed > HEAD_MAX_BYTES:
            raise TooLarge("The request's headers are too large.", hint="Send fewer or shorter headers.")
        return None

    # Called by the parser.

    def on_url(self, url: bytes) -> None:
        if not self._complete:
            self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._complete:
            self._fields[name.lower()] = value

    def on_headers_complete(self) -> None:
        if not self._complete:
            self._method = self._parser.get_method()
            self._complete = True
