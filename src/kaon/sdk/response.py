"""`kaon.Response`: a handler's parameter that sets status, headers and cookies of its response."""

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
"""Headers that Kaon sets."""


def own_field(name: str, value: str) -> tuple[bytes, bytes]:
    """A handler's header, encoded. Raises ValueError for one of Kaon's own or an invalid one."""
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
        key, encoded = own_field(name, value)
        self.fields[key] = encoded

    def __delitem__(self, name: str) -> None:
        del self.fields[_key(name)]

    def __iter__(self) -> Iterator[str]:
        return (key.decode("latin-1") for key in self.fields)

    def __len__(self) -> int:
        return len(self.fields)


class Response:
    """Status, headers and cookies of a handler's response."""

    def __init__(self) -> None:
        self._status_code = 200
        self._cookies: list[tuple[bytes, bytes]] = []
        self._headers = _Headers()

    @property
    def headers(self) -> MutableMapping[str, str]:
        """Headers beyond Kaon's own. Setting an invalid one raises ValueError."""
        return self._headers

    @property
    def status_code(self) -> int:
        """200 unless set; 200 to 599."""
        return self._status_code

    @status_code.setter
    def status_code(self, value: int) -> None:
        if isinstance(value, bool) or not 200 <= value <= 599:
            raise ValueError(f"{value!r} is not a response status: use 200 to 599")
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
        """Set a cookie. `max_age` is in seconds. Raises ValueError for invalid values."""
        try:
            cookie: SimpleCookie = SimpleCookie({key: value})
        except CookieError as error:
            raise ValueError(f"{key[:80]!r} is not a valid cookie name") from error
        morsel = cookie[key]
        when = expires.strftime("%a, %d %b %Y %H:%M:%S GMT") if isinstance(expires, datetime) else expires
        attributes = {"max-age": max_age, "expires": when, "path": path, "domain": domain, "samesite": samesite}
        for name, given in attributes.items():
            if given is not None:
                if ";" in str(given):
                    raise ValueError(f"{name} of a cookie cannot be {given!r}")
                morsel[name] = given
        morsel["secure"], morsel["httponly"] = secure, httponly
        self._cookies.append(field("set-cookie", morsel.OutputString()))

    def delete_cookie(self, key: str, *, path: str = "/", domain: str | None = None) -> None:
        """Delete a cookie."""
        self.set_cookie(key, max_age=0, expires="Thu, 01 Jan 1970 00:00:00 GMT", path=path, domain=domain)

    def fields(self) -> tuple[tuple[bytes, bytes], ...]:
        """Headers and cookies, encoded."""
        return (*self._headers.fields.items(), *self._cookies)


def _key(name: str) -> bytes:
    return name.lower().encode("latin-1", "replace")
