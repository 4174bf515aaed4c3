"""The port between handles and the transport of their calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Mapping
from typing import Any, Protocol, TypeAlias

Read: TypeAlias = Callable[[str, bytes], Any]
"""Decodes an answer: `read(media_type, content)`."""


class Reference:
    """A reference to another service. A constructor's parameter with such a default is not a setting."""

    def __init__(self, name: str) -> None:
        self._name = name


def target_of(reference: Reference) -> str:
    """The name of a reference's deployment; its other attributes are endpoints."""
    return reference._name


class Reply(Protocol):
    """A pending answer: `await` it, or iterate over a stream with `async for`."""

    def __await__(self) -> Generator[Any, None, Any]: ...

    def __aiter__(self) -> AsyncIterator[Any]: ...


class ServiceLink(Protocol):
    """Calls to one service: in this process, or over the network.

    Arguments are by name, or a positional body. `read` decodes the answer, or each item of a stream; None: to plain
    Python values and files.
    """

    def call(self, endpoint: str, arguments: Mapping[str, Any], body: Any, read: Read | None) -> Any:
        """The answer, or an iterator of a stream's items. Raises KaonError."""
        ...

    def acall(self, endpoint: str, arguments: Mapping[str, Any], body: Any, read: Read | None) -> Reply:
        """The answer or the items, for coroutines. Raises KaonError when it is awaited."""
        ...
