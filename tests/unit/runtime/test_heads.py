"""A handler's access to the request's and the response's head; errors of other libraries."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pydantic
import pytest
from fastapi import HTTPException as FastAPIException
from starlette.exceptions import HTTPException
from starlette.websockets import WebSocket

import kaon
from kaon.errors import ConfigError
from kaon.sdk.service import service_of


class Strict(pydantic.BaseModel):
    n: int


@kaon.service
class Heads:
    @kaon.endpoint
    async def who(self, text: str, request: kaon.Request) -> dict[str, str | None]:
        return {
            "text": text,
            "agent": request.headers.get("User-Agent"),
            "cookie": request.cookies.get("a"),
            "query": request.query_params.get("q"),
            "line": f"{request.method} {request.path}",
            "client": request.client,
        }

    @kaon.endpoint(method="GET", path="/made/{name}")
    def made(self, name: str, answer: kaon.Response) -> str:
        answer.status_code = 201
        answer.headers["Location"] = f"/things/{name}"
        answer.set_cookie("seen", "yes", max_age=60, httponly=True)
        return name

    @kaon.endpoint
    async def nothing(self, answer: kaon.Response) -> None:
        answer.status_code = 204

    @kaon.endpoint
    async def says(self, name: str, value: str, answer: kaon.Response) -> int:
        answer.headers[name] = value
        return 1

    @kaon.endpoint
    async def letters(self, answer: kaon.Response) -> AsyncIterator[str]:
        answer.headers["x-count"] = "2"
        yield "a"
        yield "b"

    @kaon.endpoint(method="GET")
    async def raises(self, kind: str) -> str:
        match kind:
            case "starlette":
                raise HTTPException(404, "there is no such user")
            case "fastapi":
                raise FastAPIException(409, {"taken": "ada"}, headers={"x-why": "taken"})
            case "teapot":
                raise HTTPException(418)
            case "header":
                raise HTTPException(404, "no", headers={"x-bad": "a\r\nset-cookie: b=c"})
            case "redirect":
                raise HTTPException(307, headers={"location": "/"})
            case "kaon":
                raise kaon.NotFound("there is no such user", hint="ask for another")
            case _:
                Strict.model_validate({"n": "the password is hunter2"})
        return ""


async def test_a_handler_sees_the_request_and_callers_see_no_parameter_for_it(serve: Any) -> None:
    running = await serve(Heads)
    headers = {"user-agent": "me", "cookie": "a=b", "x-forwarded-for": "10.1.1.1, 10.0.0.7"}
    answer = await running.client.post("/who?q=1", json={"text": "t"}, headers=headers)
    known = {"agent": "me", "cookie": "b", "query": "1", "line": "POST /who", "client": "10.0.0.7"}
    assert answer.json() == {"text": "t", **known}
    refused = await running.client.post("/who", json={"text": "t", "request": {}})
    assert refused.status_code == 400
    body = service_of(Heads).openapi()["paths"]["/who"]["post"]["requestBody"]
    assert body["content"]["application/json"]["schema"]["properties"].keys() == {"text"}


async def test_a_handler_sets_status_headers_and_cookies(serve: Any) -> None:
    running = await serve(Heads)
    answer = await running.client.get("/made/ada")
    assert (answer.status_code, answer.json()) == (201, "ada")
    assert answer.headers["location"] == "/things/ada"
    assert answer.headers["set-cookie"] == "seen=yes; HttpOnly; Max-Age=60; Path=/; SameSite=lax"
    empty = await running.client.post("/nothing", json={})
    assert (empty.status_code, empty.content, "content-length" in empty.headers) == (204, b"", False)
    assert (await running.client.post("/letters", json={})).headers["x-count"] == "2"


@pytest.mark.parametrize(
    ("name", "value"),
    [("x-a", "b\r\nset-cookie: c=d"), ("x a", "b"), ("", "b"), ("Content-Length", "1"), ("transfer-encoding", "x")],
)
async def test_an_invalid_header_or_one_of_kaons_own_is_never_sent(serve: Any, name: str, value: str) -> None:
    running = await serve(Heads)
    answer = await running.client.post("/says", json={"name": name, "value": value})
    assert answer.status_code == 500
    assert "set-cookie" not in answer.headers


def test_a_cookie_says_nothing_but_itself() -> None:
    response = kaon.Response()
    for wrong in ({"key": "a b"}, {"key": "a", "path": "/; secure"}, {"key": "a", "domain": "x\r\ny: z"}):
        with pytest.raises(ValueError, match=r"cookie|header"):
            response.set_cookie(**wrong)
    response.set_cookie("a", "b;c\r\nd: e")
    assert response.fields() == ((b"set-cookie", b'a="b\\073c\\015\\012d: e"; Path=/; SameSite=lax'),)


@pytest.mark.parametrize("status", [100, 199, 600, True])
def test_a_status_is_one_of_an_answer(status: int) -> None:
    with pytest.raises(ValueError, match="status"):
        kaon.Response().status_code = status


@pytest.mark.parametrize(
    ("kind", "status", "code", "detail"),
    [
        ("starlette", 404, "not-found", "there is no such user"),
        ("fastapi", 409, "conflict", '{"taken": "ada"}'),
        ("teapot", 418, "http-418", "I'm a Teapot"),
        ("kaon", 404, "not-found", "there is no such user"),
        ("pydantic", 500, "internal", "The service failed while it handled the request."),
        ("header", 500, "internal", "The service failed while it handled the request."),
        ("redirect", 500, "internal", "The service failed while it handled the request."),
    ],
)
async def test_what_a_handler_raises_is_answered(serve: Any, kind: str, status: int, code: str, detail: str) -> None:
    running = await serve(Heads)
    for path in ("/raises", "/%72aises"):
        answer = await running.client.get(path, params={"kind": kind})
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.json()["detail"].lower() == detail.lower()
        assert "set-cookie" not in answer.headers


async def test_headers_of_an_exception_are_sent_also_on_the_fast_path(serve: Any) -> None:
    running = await serve(Heads)
    assert (await running.client.get("/raises?kind=fastapi")).headers["x-why"] == "taken"


def test_batched_methods_and_websockets_take_no_head() -> None:
    def batched(self: Any, texts: list[str], request: kaon.Request) -> list[str]:
        return texts

    async def talk(self: Any, socket: WebSocket, answer: kaon.Response) -> None: ...

    for method, options in ((batched, {"batch": kaon.Batch()}), (talk, {})):
        with pytest.raises(ConfigError, match="takes") as error:
            kaon.service(type("Wrong", (), {"method": kaon.endpoint(**options)(method)}))
        assert method.__name__ in error.value.cause


def noted(function: Any) -> Any:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return inner


def awaited(function: Any) -> Any:
    @functools.wraps(function)
    async def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return inner


@kaon.service
class Decorated:
    word = "!"

    @kaon.endpoint
    @noted
    async def above(self, text: str) -> str:
        return text.upper()

    @noted
    @kaon.endpoint
    async def below(self, text: str) -> str:
        return text.upper()

    @kaon.endpoint
    @noted
    @awaited
    @noted
    def twice(self, text: str) -> str:
        return text.upper()

    @kaon.endpoint
    @noted
    def plain(self, text: str) -> str:
        return text.upper()

    @kaon.endpoint
    @staticmethod
    async def alone(text: str) -> str:
        return text.upper()

    @staticmethod
    @kaon.endpoint
    def alone_too(text: str) -> str:
        return text.upper()

    @kaon.endpoint
    @classmethod
    def of_class(cls, text: str) -> str:
        return text.upper() + cls.word

    async def _say(self, prefix: str, text: str, loud: bool) -> str:
        return prefix + (text.upper() if loud else text)

    shout = kaon.endpoint(functools.partialmethod(_say, "", loud=True))

    @kaon.endpoint
    @noted
    async def letters(self, text: str) -> AsyncIterator[str]:
        for letter in text:
            yield letter.upper()

    @kaon.endpoint
    @noted
    def letters_of_a_thread(self, text: str) -> Iterator[str]:
        yield from text.upper()


PLAIN = ["above", "below", "twice", "plain", "alone", "alone-too", "shout"]


@pytest.mark.parametrize("name", PLAIN)
async def test_a_decorated_method_is_served_as_what_it_is(serve: Any, name: str) -> None:
    running = await serve(Decorated)
    answer = await running.client.post(f"/{name}", json={"text": "hi"})
    assert (answer.status_code, answer.json()) == (200, "HI")
    assert (await running.client.post(f"/{name}", json={"text": "hi", "loud": False})).status_code == 400


async def test_a_class_method_gets_its_class(serve: Any) -> None:
    running = await serve(Decorated)
    assert (await running.client.post("/of-class", json={"text": "hi"})).json() == "HI!"


@pytest.mark.parametrize("name", ["letters", "letters-of-a-thread"])
async def test_a_decorated_generator_is_a_stream(serve: Any, name: str) -> None:
    running = await serve(Decorated)
    headers = {"accept": "application/x-ndjson"}
    answer = await running.client.post(f"/{name}", json={"text": "hi"}, headers=headers)
    assert answer.text.split() == ['"H"', '"I"']


def test_a_decorator_that_hides_the_signature_is_refused_with_the_way_out() -> None:
    def hiding(function: Any) -> Any:
        def inner(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return inner

    def shout(self: Any, text: str) -> str:
        return text

    with pytest.raises(ConfigError) as error:
        kaon.service(type("Hidden", (), {"shout": kaon.endpoint(hiding(shout))}))
    assert "functools.wraps" in error.value.hint


def test_decorated_methods_work_in_process_too() -> None:
    with kaon.local(decorated=Decorated()):
        handle = kaon.use("decorated")
        assert [getattr(handle, name.replace("-", "_"))(text="hi") for name in PLAIN] == ["HI"] * len(PLAIN)
