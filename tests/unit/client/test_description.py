"""The description of a deployment is fetched once per process, and again when an answer names another version."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx2
import pytest

import kaon
import kaon.testing
from kaon.client.client import AsyncClient, Client
from kaon.errors import NotFound
from kaon.types.route import DESCRIPTION_HEADER


@kaon.service(name="shop")
class Before:
    @kaon.endpoint(method="GET")
    def price(self, name: str) -> str:
        return f"old {name}"


@kaon.service(name="shop")
class After:
    @kaon.endpoint
    def price(self, product: str) -> str:
        return f"new {product}"


def fetched(service: kaon.testing.ServiceClient, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The URLs that clients get from now on."""
    urls: list[str] = []
    send = httpx2.Client.send

    def counted(self: httpx2.Client, request: httpx2.Request, **more: Any) -> httpx2.Response:
        urls.append(request.url.path)
        return send(self, request, **more)

    monkeypatch.setattr(httpx2.Client, "send", counted)
    return urls


def test_clients_of_one_url_and_key_share_a_description(monkeypatch: pytest.MonkeyPatch) -> None:
    with kaon.testing.client(Before) as service:
        urls = fetched(service, monkeypatch)
        for _ in range(3):
            with Client(service.url, service.key) as client:
                assert client.price(name="lamp") == "old lamp"
                assert "price" in dir(client)
        assert urls.count("/openapi.json") == 1
        with pytest.raises(kaon.KaonError):
            Client(service.url, "kaon_other").price(name="lamp")


async def test_an_async_client_shares_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with kaon.testing.client(Before) as service:
        assert service.price(name="lamp") == "old lamp"
        async with AsyncClient(service.url, service.key) as client:
            assert "price" in dir(client), "without a request"
            assert await client.price(name="lamp") == "old lamp"


def test_a_refusal_that_names_another_version_leads_to_the_new_description(
    serving: Callable[[Any], AbstractContextManager[str]], app_of: Callable[..., Any]
) -> None:
    app = app_of(Before())
    with serving(app) as url, Client(url, "") as client:
        assert client.price(name="lamp") == "old lamp"
        after = app_of(After())
        app.instance, app.service = after.instance, after.service  # a rollout
        app.failures.append((404, {DESCRIPTION_HEADER: "another"}, b""))
        with pytest.raises(NotFound):
            client.price(name="lamp")
        assert client.price(product="lamp") == "new lamp"


def test_only_refusals_that_may_not_fit_name_the_version() -> None:
    with kaon.testing.client(Before) as service:
        answers = [service.http.get("/openapi.json"), service.http.get("/nothing"), service.http.post("/price")]
        answers.append(service.http.get("/price"))
        versions = {answer.headers.get(DESCRIPTION_HEADER) for answer in answers}
        assert len(versions) == 1
        assert None not in versions
        assert DESCRIPTION_HEADER not in service.http.get("/price", params={"name": "x"}).headers
        assert DESCRIPTION_HEADER not in httpx2.get(f"{service.url}/nothing").headers, "without a key"
