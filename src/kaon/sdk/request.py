"""`kaon.Request`: a handler's parameter with the head of the request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl


class Headers(Mapping[str, str]):
    """Headers by name in any case; repeated ones are joined by commas, in order."""

    def __init__(self, fields: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self._values: dict[str, str] = {}
        for raw_name, raw_value in fields:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            previous = self._values.get(name)
            separator = "; " if name == "cookie" else ", "
            self._values[name] = value if previous is None else previous + separator + value

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Headers({', '.join(self._values)})"


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request."""

    method: str = "POST"
    path: str = "/"
    """Without the deployment's prefix, decoded."""
    query_string: str = ""
    headers: Headers = field(default_factory=Headers)
    client: str = ""
    """The caller's address, from the edge (`X-Forwarded-For`) or the connection; empty: unknown."""

    @property
    def query_params(self) -> dict[str, str]:
        """The query's parameters; of repeated ones the last."""
        return dict(parse_qsl(self.query_string, keep_blank_values=True))

    @property
    def cookies(self) -> dict[str, str]:
        """The request's cookies; none when they cannot be parsed."""
        try:
            return {name: morsel.value for name, morsel in SimpleCookie(self.headers.get("cookie", "")).items()}
        except CookieError:
            return {}
