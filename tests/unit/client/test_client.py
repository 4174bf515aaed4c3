import asyncio
import inspect
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

import kaon
from kaon import context
from kaon.errors import BadAnswer, DeadlineExceeded, InvalidInput, NotFound, Unauthenticated, Unavailable
from kaon.sdk.service import service_of

PNG = b"\x89PNG\r\n\x1a\n...."
KEY = "kaon_test"


class Item(BaseModel):
    item_id: int = 0
    name: str


@kaon.service
class Shop:
    @kaon.endpoint(method="GET", path="/", examples=[{"user_id": 1, "tag": ["a", "b"]}])
    def recommend(self, user_id: int, tag: list[str] | None = None) -> list[str]:
        return [f"{user_id}", *(tag or [])]

    @kaon.endpoint
    def add(self, item: Item) -> Item:
        return item

    @kaon.endpoint(method="PUT", path="/items/{item_id}")
    async def put(self, item_id: int, item: Item) -> list[int]:
        return [item_id, item.item_id]

    @kaon.endpoint
    def total(self, numbers: list[float], scale: float = 1.0) -> float:
        return sum(numbers) * scale

    @kaon.endpoint
    def look(self, image: kaon.Image, title: str = "") -> dict[str, Any]:
        return {"size": len(image), "type": image.media_type, "name": image.name, "title": title}

    @kaon.endpoint
    def flip(self, image: kaon.Image) -> kaon.Image:
        return kaon.Image(image.content + b"!", media_type=image.media_type)

    @kaon.endpoint
    def count(self, to: int, fail: bool = False) -> Iterator[int]:
        yield from range(to)
        if fail:
            raise kaon.ItemError("no more")

    @kaon.endpoint
    async def words(self, text: str) -> AsyncIterator[str]:
        for word in text.split():
            yield word

    @kaon.endpoint
    def close(self) -> str:
        return "closed"


@pytest.fixture
def app(app_of: Any) -> Any:
    return app_of(Shop(), KEY)


@pytest.fixture
def url(app: Any, serving: Any) -> Iterator[str]:
    with serving(app) as url:
        yield url


@pytest.fixture
def shop(url: str) -> Iterator[kaon.Client]:
    with kaon.Client(url, key=KEY) as client:
        yield client


def test_files_are_given_by_path_open_file_or_bytes(url: str, tmp_path: Path) -> None:
    file = tmp_path / "cat.png"
    file.write_bytes(PNG)
    with kaon.Client(url, KEY) as client, file.open("rb") as opened:
        named = {"size": len(PNG), "type": "image/png", "name": "cat.png", "title": "a"}
        assert client.look(image=file, title="a") == named
        assert client.look(image=str(file), title="a") == named
        assert client.look(image=opened, title="a") == named
        assert client.look(image=PNG, title="a") == named | {"name": "file"}
        assert client.flip(file).content == PNG + b"!", "also a body that is a file"
        with pytest.raises(InvalidInput, match="cannot be read"):
            client.look(image=tmp_path / "missing.png")
        with pytest.raises(InvalidInput, match="binary mode"), (tmp_path / "text").open("w+") as text:
            client.look(image=text)


def test_endpoints_are_listed_and_have_signatures_and_docstrings(url: str) -> None:
    with kaon.Client(url, KEY) as client:
        assert {"total", "look", "close"} <= set(dir(client))
        assert str(inspect.signature(client.total)) == "(*, numbers: list[float], scale: float = 1.0) -> float"
        assert str(inspect.signature(client.recommend)) == (
            "(*, user_id: int, tag: list[str] | None = None) -> list[str]"
        )
        look = inspect.signature(client.look).parameters
        assert (look["image"].annotation, look["title"].default) == (kaon.File, "")
        assert client.total.__name__ == "total"
        assert client.total.__doc__ is not None
    unreachable = kaon.Client("http://127.0.0.1:9/none", timeout_s=0.2)
    assert "close" in dir(unreachable)
    assert unreachable.anything.__name__ == "anything"


def test_endpoints_are_methods(shop: kaon.Client) -> None:
    assert shop.recommend(user_id=1, tag=["a b", "ü&"]) == ["1", "a b", "ü&"]
    assert shop.total(numbers=np.array([1.0, 2.0]), scale=2) == 6.0
    assert shop.call("close") == "closed"


def test_a_body_that_is_one_model_is_given_by_fields_by_name_or_by_position(shop: kaon.Client) -> None:
    expected = {"item_id": 0, "name": "a"}
    assert shop.add(name="a") == shop.add(item=Item(name="a")) == shop.add({"name": "a"}) == expected
    assert shop.put(item_id=7, name="a") == [7, 7]
    assert shop.put(Item(item_id=3, name="a"), item_id=7) == [7, 3]


def test_files_go_as_forms_or_raw_and_come_as_files(shop: kaon.Client) -> None:
    image = kaon.Image(PNG, name='a "b".png')
    told = shop.look(image=image, title="T")
    assert (told["size"], told["type"], told["title"]) == (len(PNG), "image/png", "T")
    flipped = shop.flip(image)
    assert (flipped.content, flipped.media_type) == (PNG + b"!", "image/png")


def test_streams_are_iterators_and_tell_their_errors(shop: kaon.Client) -> None:
    assert list(shop.count(to=3)) == [0, 1, 2]
    items = shop.count(to=2, fail=True)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(kaon.ItemError, match="no more"):
        next(items)


async def test_the_async_client_awaits_calls_and_goes_through_streams(url: str) -> None:
    async with kaon.AsyncClient(url, key=KEY) as shop:
        assert await shop.recommend(user_id=1) == ["1"]
        assert [word async for word in shop.words(text="a b")] == ["a", "b"]
        assert await shop.words(text="a b") == ["a", "b"]
        assert await asyncio.gather(*(shop.add(name=str(n)) for n in range(8)))
        with pytest.raises(kaon.ItemError):
            async for _ in shop.count(to=1, fail=True):
                pass


def test_errors_are_those_that_the_deployment_answered(url: str, shop: kaon.Client) -> None:
    with pytest.raises(Unauthenticated):
        kaon.Client(url, key="wrong").recommend(user_id=1)
    with pytest.raises(InvalidInput) as error:
        shop.total(numbers=["x"])
    assert error.value.errors[0]["where"] == "body.numbers.0"
    with pytest.raises(NotFound, match="no endpoint `nothing`") as missing:
        shop.nothing()
    assert "recommend" in missing.value.hint
    with pytest.raises(InvalidInput, match="no parameter k"):
        shop.recommend(user_id=1, k=3)
    with pytest.raises(InvalidInput, match="needs item_id"):
        shop.put(name="a")
    with pytest.raises(InvalidInput, match="cannot be converted to JSON"):
        shop.total(numbers=object())


def test_idempotent_calls_are_tried_again_and_others_are_not(app: Any, shop: kaon.Client) -> None:
    app.failures = [(503, {"retry-after": "0"}, b""), (429, {"retry-after": "0"}, b"")]
    assert shop.recommend(user_id=1) == ["1"]
    assert [path for _, path, _ in app.seen] == ["/", "/", "/"]
    app.failures = [(503, {"retry-after": "0"}, b"")]
    with pytest.raises(Unavailable):
        shop.add(name="a")
    assert [path for _, path, _ in app.seen].count("/add") == 1


def test_an_unreachable_deployment_is_told_with_a_hint() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable, match="cannot be reached") as error:
            kaon.Client(f"http://127.0.0.1:{taken.getsockname()[1]}/x", key="", timeout_s=0.3).recommend()
    assert "kaon status" in error.value.hint


def test_a_silent_deployment_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(DeadlineExceeded, match=r"within 0\.2 s"):
        kaon.Client(f"http://127.0.0.1:{silent.getsockname()[1]}/x", key="", timeout_s=0.2).recommend()


def test_what_is_no_deployment_is_told(serving: Any) -> None:
    async def elsewhere(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
        await send({"type": "http.response.body", "body": b"<html>"})

    with serving(elsewhere) as url, pytest.raises(BadAnswer, match="is not JSON"):
        kaon.Client(url, key="").recommend()


def test_request_id_and_deadline_travel_on(app: Any, shop: kaon.Client) -> None:
    request_id, deadline = context.request_id.set("r-1"), context.deadline.set(time.monotonic() + 5)
    try:
        shop.recommend(user_id=1)
        list(shop.count(to=1))
    finally:
        context.request_id.reset(request_id)
        context.deadline.reset(deadline)
    for _, _, headers in app.seen:
        assert headers["x-request-id"] == "r-1"
        assert 0 < float(headers["x-request-timeout"]) <= 5


def test_a_handle_calls_over_the_network_on_the_platform(
    app: Any, serving: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAON_KEY", KEY)

    class Under:
        """The same app below /shop-of-network."""

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            scope["path"] = scope["path"].removeprefix("/shop-of-network") or "/"
            await app(scope, receive, send)

    with serving(Under()) as edge:
        monkeypatch.setenv("KAON_EDGE_URL", edge)
        handle = kaon.use("shop-of-network")
        assert handle.recommend(user_id=3) == ["3"]
        assert list(handle.count(to=2)) == [0, 1]

        async def ask() -> Any:
            return await handle.aio.recommend(user_id=4), [n async for n in handle.aio.count(to=2)]

        assert asyncio.run(ask()) == (["4"], [0, 1])


@pytest.mark.parametrize("label", ["curl", "Python", "Python, plain HTTP", "JavaScript"])
def test_samples_run_as_they_stand(url: str, tmp_path: Path, label: str) -> None:
    command = {"curl": ["bash", "-ec"], "JavaScript": ["node", "--input-type=module", "-e"]}.get(
        label, [sys.executable, "-c"]
    )
    if which(command[0]) is None or (label == "curl" and which("curl") is None):
        pytest.skip(f"{command[0]} is not installed")
    (tmp_path / "photo.png").write_bytes(PNG)
    document = service_of(Shop).openapi()
    wanted = {"recommend": '"a"', "add": "hello", "put": "1", "look": "image/png", "count": "0", "words": "hello"}
    sources, marks = [], []
    for item in document["paths"].values():
        for operation in item.values():
            if operation["operationId"] in wanted:
                source = next(s["source"] for s in operation["x-codeSamples"] if s["label"] == label)
                sources.append("{\n" + source + "\n}" if label == "JavaScript" and "import " not in source else source)
                marks.append(wanted[operation["operationId"]])
    separator = {"curl": "\necho\n", "JavaScript": "\n"}.get(label, "\n")
    environ = {**os.environ, "KAON_URL": url, "KAON_KEY": KEY, "KAON_HOME": str(tmp_path)}
    done = subprocess.run(
        [*command, separator.join(sources)], env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    output = done.stdout.replace("'", '"')
    assert [mark for mark in marks if mark not in output] == []


@kaon.service
class Accounts:
    """Its endpoints are called like methods of the clients and of handles."""

    @kaon.endpoint
    def close(self, account: int = 0) -> str:
        return f"closed {account}"

    @kaon.endpoint
    def call(self, number: str = "none") -> str:
        return f"called {number}"

    @kaon.endpoint
    def aclose(self, account: int = 0) -> str:
        return f"aclosed {account}"

    @kaon.endpoint
    def aio(self, n: int = 0) -> str:
        return f"aio {n}"


async def test_endpoints_that_are_called_like_the_clients_methods_are_methods_too(app_of: Any, serving: Any) -> None:
    with serving(app_of(Accounts(), KEY)) as url:

        def plainly() -> list[str]:
            with kaon.Client(url, key=KEY) as client:
                told = [client.close(account=3), client.call(number="7"), client.call(), client.call("close")]
                return [*told, client.call("call", number="8"), client.aclose(account=4), client.aio(n=1)]

        expected = ["closed 3", "called 7", "called none", "closed 0", "called 8", "aclosed 4", "aio 1"]
        assert await asyncio.to_thread(plainly) == expected
        async with kaon.AsyncClient(url, key=KEY) as client:
            assert await client.close(account=3) == "closed 3"
            assert await client.call(number="7") == "called 7"
            assert await client.call() == "called none"
            assert await client.aclose(account=4) == "aclosed 4"
            assert await client.call("aclose") == "aclosed 0"


async def test_handles_call_such_endpoints_too() -> None:
    def plainly() -> list[str]:
        handle = kaon.use("accounts")
        return [handle.close(account=3), handle.call(number="7"), handle.aio(n=1)]

    with kaon.local(accounts=Accounts()):
        assert await asyncio.to_thread(plainly) == ["closed 3", "called 7", "aio 1"]
        assert await kaon.use("accounts").aio.aio(n=2) == "aio 2"
        assert await kaon.use("accounts").aio.call(number="9") == "called 9"
