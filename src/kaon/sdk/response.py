"""What a handler may say of its answer beside the value: a parameter of the type `kaon.Response`."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from datetime import datetime
from http.cookies import CookieError, SimpleCookie
from typing import Literal

from kaon.types.headers import field

_OWN = frozenset(
    {
        "connection",
        "content-length",
        "content-type",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-request-id",
    }
)
"""Headers that the replica writes itself."""


def own_field(name: str, value: str) -> tuple[bytes, bytes]:
    """A header of a handler as it goes on the wire. Raises ValueError when it may not be set or cannot be said."""
    if name.lower() in _OWN:
        raise ValueError(f"the header {name} is set by Kaon")
    return field(name, value)


class _Headers(MutableMapping[str, str]):
    """Headers by name in any case; a value is checked when it is set."""

    def __init__(self) -> None:
        self.fields: dict[bytes, bytes] = {}

    def __getitem__(self, name: str) -> str:
        return self.fields[_key(name)].decode("latin-1")

    def __setitem__(self, name: str, value: str) -> None:
        key, said = own_field(name, value)
        self.fields[key] = said

    def __delitem__(self, name: str) -> None:
        del self.fields[_key(name)]

    def __iter__(self) -> Iterator[str]:
        return (key.decode("latin-1") for key in self.fields)

    def __len__(self) -> int:
        return len(self.fields)


class Response:
    """Status, headers and cookies of the answer that the handler's value becomes."""

    def __init__(self) -> None:
        self._status_code = 200
        self._cookies: list[tuple[bytes, bytes]] = []
        self._headers = _Headers()

    @property
    def headers(self) -> MutableMapping[str, str]:
        """Headers beyond Kaon's own. Setting one raises ValueError for what cannot be said."""
        return self._headers

    @property
    def status_code(self) -> int:
        """200 unless set; 200 to 599."""
        return self._status_code

    @status_code.setter
    def status_code(self, value: int) -> None:
        if isinstance(value, bool) or not 200 <= value <= 599:
            raise ValueError(f"{value!r} is no status of an answer: give 200 to 599")
        self._status_code = int(value)

    def set_cookie(
        self,
        key: str,
        value: str = "",
        *,
        max_age: int | None = None,
        expires: datetime | str | None = None,
        path: str = "/",
        domain: str | None = None,
        secure: bool = False,
        httponly: bool = False,
        samesite: Literal["lax", "strict", "none"] = "lax",
    ) -> None:
        """Let the caller keep a cookie. `max_age` is in seconds. Raises ValueError for what cannot be said."""
        try:
            cookie: SimpleCookie = SimpleCookie({key: value})
        except CookieError as error:
            raise ValueError(f"{key[:80]!r} is no name of a cookie") from error
        morsel = cookie[key]
        when = expires.strftime("%a, %d %b %Y %H:%M:%S GMT") if isinstance(expires, datetime) else expires
        told = {"max-age": max_age, "expires": when, "path": path, "domain": domain, "samesite": samesite}
        for name, said in told.items():
            if said is not None:
                if ";" in str(said):
                    raise ValueError(f"{name} of a cookie cannot be {said!r}")
                morsel[name] = said
        morsel["secure"], morsel["httponly"] = secure, httponly
        self._cookies.append(field("set-cookie", morsel.OutputString()))

    def delete_cookie(self, key: str, *, path: str = "/", domain: str | None = None) -> None:
        """Let the caller forget a cookie."""
        self.set_cookie(key, max_age=0, expires="Thu, 01 Jan 1970 00:00:00 GMT", path=path, domain=domain)

    def fields(self) -> tuple[tuple[bytes, bytes], ...]:
        """Headers and cookies as they go on the wire."""
        return (*self._headers.fields.items(), *self._cookies)


def _key(name: str) -> bytes:
    return name.lower().encode("latin-1", "replace")
