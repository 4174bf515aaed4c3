"""Paths and queries as they are sent: escaped slashes, trailing slashes, unknown parameters."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.websockets import WebSocket

import kaon
from kaon.client.operation import operations, payload
from kaon.errors import InvalidInput
from kaon.sdk.service import service_of


@kaon.service
class Hub:
    @kaon.endpoint(method="GET", path="/models/{model_id}")
    async def model(self, model_id: str) -> str:
        return model_id

    @kaon.endpoint(method="GET", path="/models/{model_id}/files/{file}")
    async def file(self, model_id: str, file: str) -> list[str]:
        return [model_id, file]

    @kaon.endpoint(method="GET")
    async def find(self, q: str, tag: list[str] | None = None) -> list[Any]:
        return [q, tag]

    @kaon.endpoint(method="GET", strict=True)
    async def exact(self, q: str) -> str:
        return q

    @kaon.endpoint(strict=True)
    async def exact_body(self, text: str) -> str:
        return text

    @kaon.endpoint
    async def echo(self, text: str) -> str:
        return text

    @kaon.endpoint(path="/")
    async def root(self, text: str) -> str:
        return text

    @kaon.endpoint(path="/talk")
    async def talk(self, socket: WebSocket, token: str) -> None:
        await socket.accept()


@pytest.mark.parametrize(
    ("path", "meant"),
    [("/exat", "/exact"), ("/Echo", "/echo"), ("/model/7", "/models/7"), ("/app/y", "/app/x"), ("/other", "")],
)
async def test_a_path_that_is_nearly_right_gets_a_suggestion(serve: Any, path: str, meant: str) -> None:
    @kaon.service(mounts={"/app/x": lambda hub: Starlette()})
    class Mounting(Hub):
        pass

    answer = await (await serve(Mounting)).client.get(path)
    paths = "/, /app/x, /echo, /exact, /exact-body, /find, /models/{model_id}, /models/{model_id}/files/{file}, /talk"
    assert (answer.status_code, answer.json()["detail"]) == (404, "There is no such endpoint.")
    suggestion = f"Did you mean {meant}? " if meant else ""
    assert answer.json()["hint"] == f"{suggestion}It has {paths}. See the deployment's /docs page."


@pytest.mark.parametrize(
    ("sent", "value"),
    [
        ("org%2Fname", "org/name"),
        ("org%2fname%2Fmore", "org/name/more"),
        ("a%20b%3Fc%23d", "a b?c#d"),
        ("h%C3%A9", "hé"),
        ("%2e%2e%2Fx", "../x"),
        ("100%25", "100%"),
        ("a+b", "a+b"),
    ],
)
async def test_a_path_parameter_arrives_whole(serve: Any, sent: str, value: str) -> None:
    running = await serve(Hub)
    reader, writer = await running.raw()
    writer.write(f"GET /models/{sent} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer kaon_testing\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.decode().splitlines() if line.startswith("content-length"))
    assert head.startswith(b"HTTP/1.1 200")
    assert (await reader.readexactly(length)).decode() == f'"{value}"'
    writer.close()


async def test_an_escaped_slash_is_no_border_between_names(serve: Any) -> None:
    running = await serve(Hub)
    assert (await running.client.get("/models/org%2Fname/files/a%2Fb")).json() == ["org/name", "a/b"]
    assert (await running.client.get("/models/org/name")).status_code == 404
    assert (await running.client.get("/models%2Forg")).status_code == 404
    assert (await running.client.get("/models//files/a")).status_code == 404


async def test_a_path_that_is_not_utf8_is_refused_with_the_reason(serve: Any) -> None:
    running = await serve(Hub)
    answer = await running.client.get("/models/%FF")
    assert (answer.status_code, answer.json()["detail"]) == (400, "The path is not UTF-8.")


async def test_a_slash_at_the_end_is_the_same_endpoint_without_a_redirect(serve: Any) -> None:
    running = await serve(Hub)
    assert (await running.client.get("/find/?q=a")).json() == ["a", None]
    assert (await running.client.post("/echo/", json={"text": "a"})).json() == "a"
    assert (await running.client.post("/%65cho/", json={"text": "a"})).json() == "a"
    assert (await running.client.get("/models/a/")).json() == "a"
    assert (await running.client.post("/", json={"text": "a"})).json() == "a"
    assert (await running.client.get("/echo/")).status_code == 405
    assert (await running.client.get("/find//?q=a")).status_code == 404


async def test_unknown_query_parameters_are_ignored_unless_the_endpoint_is_strict(serve: Any) -> None:
    running = await serve(Hub)
    assert (await running.client.get("/find?q=a&_=17&utm_source=mail&tag=b")).json() == ["a", ["b"]]
    assert (await running.client.post("/echo?utm_source=mail", json={"text": "a"})).json() == "a"
    for answer in (
        await running.client.get("/exact?q=a&_=17"),
        await running.client.post("/exact-body?_=17", json={"text": "a"}),
    ):
        assert (answer.status_code, answer.json()["errors"][0]["where"]) == (400, "query._")


async def test_a_query_with_countless_parameters_is_refused(serve: Any) -> None:
    running = await serve(Hub)
    answer = await running.client.get("/find?q=a" + "&x=1" * 5000)
    assert (answer.status_code, "more than 1000 parameters" in answer.json()["detail"]) == (400, True)


@pytest.mark.parametrize("text", ["9" * 5000, "-" + "9" * 5000, "1e400", "nan", "inf", "-Infinity"])
async def test_numbers_of_any_length_are_refused_and_nothing_else(serve: Any, text: str) -> None:
    @kaon.service
    class Numbers:
        @kaon.endpoint(method="GET")
        async def whole(self, n: int) -> int:
            return n

        @kaon.endpoint(method="GET")
        async def real(self, n: float) -> float:
            return n

    running = await serve(Numbers)
    assert (await running.client.get("/whole", params={"n": text})).status_code == 400
    assert (await running.client.get("/real", params={"n": text})).status_code == 400


def test_the_client_sends_slashes_escaped_and_refuses_what_no_path_can_say() -> None:
    operation = operations(service_of(Hub).openapi())["model"]
    assert payload(operation, {"model_id": "org/name v1"}).path == "/models/org%2Fname%20v1"
    for value in ("", ".", ".."):
        with pytest.raises(InvalidInput, match="model_id"):
            payload(operation, {"model_id": value})
