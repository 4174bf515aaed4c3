"""Endpoints at the OpenAI API's paths, called by the `openai` package itself: one answer, streams, errors."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from pydantic import BaseModel, ConfigDict
from tests.waiting import forever

import kaon
import kaon.testing
from kaon.types.key import Access, Grant, key_hash

KEY = "kaon_testing"


class Message(BaseModel):
    role: str
    content: str


class ChatRequest(BaseModel):
    model: str
    messages: list[Message]
    stream: bool = False
    temperature: float = 1.0


class Strict(ChatRequest):
    model_config = ConfigDict(extra="forbid")


class EmbeddingRequest(BaseModel):
    model_config = ConfigDict(extra="allow")
    model: str
    input: str | list[str]


class SpeechRequest(BaseModel):
    input: str


class Completion(BaseModel):
    id: str = "c-1"
    object: str = "chat.completion"
    created: int = 0
    model: str
    choices: list[dict[str, Any]]


class Chunk(BaseModel):
    id: str = "c-1"
    object: str = "chat.completion.chunk"
    created: int = 0
    model: str
    choices: list[dict[str, Any]]


def chunk(model: str, text: str) -> Chunk:
    return Chunk(model=model, choices=[{"index": 0, "delta": {"content": text}, "finish_reason": None}])


def completion(model: str, text: str) -> Completion:
    message = {"role": "assistant", "content": text}
    return Completion(model=model, choices=[{"index": 0, "message": message, "finish_reason": "stop"}])


@kaon.service
class Chat:
    def __init__(self) -> None:
        self.release = threading.Event()
        self.begun: list[str] = []
        self.closed: list[str] = []

    @kaon.endpoint(path="/v1/chat/completions", concurrency=2)
    async def complete(self, request: ChatRequest) -> Completion | AsyncIterator[Chunk]:
        text = request.messages[-1].content
        match request.model:
            case "missing":
                raise kaon.NotFound("There is no model missing.", hint="Use echo.")
            case "broken":
                raise RuntimeError("a bug")
            case "hangs":
                self.begun.append("hangs")
                await forever()
        if request.stream:
            return self.chunks(request.model, text)
        return completion(request.model, text)

    async def chunks(self, model: str, text: str) -> AsyncIterator[Chunk]:
        try:
            for word in text.split():
                if word == "fail":
                    raise kaon.Unavailable("The model is busy.")
                if word == "wait":
                    await forever()
                yield chunk(model, word)
        finally:
            self.closed.append("chunks")

    @kaon.endpoint(path="/v1/completions", concurrency=1)
    def in_thread(self, request: ChatRequest) -> Completion | Iterator[Chunk]:
        if request.model == "waits":
            self.begun.append("waits")
            self.release.wait(10)
        words = request.messages[-1].content.split()
        if request.stream:
            return iter([chunk(request.model, word) for word in words])
        return completion(request.model, " ".join(words))

    @kaon.endpoint(path="/v1/embeddings")
    def embed(self, request: EmbeddingRequest) -> dict[str, Any]:
        texts = [request.input] if isinstance(request.input, str) else request.input
        data = [{"object": "embedding", "index": n, "embedding": [float(len(t))]} for n, t in enumerate(texts)]
        extra = sorted(request.model_extra or {})
        return {"object": "list", "model": request.model, "data": data, "usage": {"prompt_tokens": 0}, "extra": extra}

    @kaon.endpoint(path="/v1/models", method="GET")
    def models(self) -> dict[str, Any]:
        return {"object": "list", "data": [{"id": "echo", "object": "model", "created": 0, "owned_by": "me"}]}

    @kaon.endpoint(path="/v1/audio/speech", media_type="audio/wav")
    async def speak(self, request: SpeechRequest) -> AsyncIterator[bytes]:
        yield b"RIFF"
        yield request.input.encode()

    @kaon.endpoint(protocol="openai")
    def strict(self, request: Strict) -> str:
        return request.model

    @kaon.endpoint
    def plain(self, number: int, stream: bool = False) -> int | Iterator[int]:
        return iter(range(number)) if stream else number

    @kaon.endpoint
    async def always(self, number: int) -> AsyncIterator[int]:
        return numbers(number)


async def numbers(most: int) -> AsyncIterator[int]:
    for number in range(most):
        yield number


def ask(text: str = "hello there", model: str = "echo", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


@pytest.fixture
async def running(serve: Any) -> Any:
    return await serve(Chat)


@pytest.fixture
async def client(running: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    async with client_of(running, KEY) as found:
        yield found


def client_of(running: Any, key: str) -> openai.AsyncOpenAI:
    http = httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(uds=running.path, verify=False))
    return openai.AsyncOpenAI(base_url="http://replica/v1", api_key=key, http_client=http, max_retries=0)


async def test_a_chat_is_answered_once(client: openai.AsyncOpenAI) -> None:
    answered = await client.chat.completions.with_raw_response.create(**ask(), user="ada")
    assert answered.headers["x-request-id"]
    assert answered.parse().choices[0].message.content == "hello there"


async def test_a_chat_is_streamed_when_the_request_says_so(client: openai.AsyncOpenAI, running: Any) -> None:
    stream = await client.chat.completions.create(**ask(stream=True))
    assert [chunk.choices[0].delta.content async for chunk in stream] == ["hello", "there"]
    assert running.instance.closed == ["chunks"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_method_without_async_answers_once_or_streams(running: Any, stream: bool) -> None:
    answer = await running.client.post("/v1/completions", json=ask(stream=stream))
    expected = "text/event-stream" if stream else "application/json"
    assert (answer.status_code, answer.headers["content-type"]) == (200, expected)
    assert "hello" in answer.text
    assert answer.text.endswith("data: [DONE]\n\n") is stream


async def test_embeddings_models_and_speech(client: openai.AsyncOpenAI) -> None:
    found = await client.embeddings.create(model="echo", input=["a", "abc"])
    assert [each.embedding for each in found.data] == [[1.0], [3.0]]
    assert [model.id async for model in client.models.list()] == ["echo"]
    speech = await client.audio.speech.create(model="echo", voice="alloy", input="hi")
    assert speech.content == b"RIFFhi"


async def test_unknown_fields_follow_the_model(running: Any) -> None:
    kept = await running.client.post("/v1/embeddings", json={"model": "m", "input": "a", "dimensions": 3})
    assert kept.json()["extra"] == ["dimensions"]
    ignored = await running.client.post("/v1/chat/completions", json=ask(top_p=1))
    assert ignored.status_code == 200
    refused = await running.client.post("/strict", json=ask(top_p=1))
    assert refused.json()["error"]["param"] == "top_p"


async def test_errors_have_the_form_of_the_api(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        await client.chat.completions.create(**ask(model="missing"))
    assert missing.value.body == {
        "message": "There is no model missing. Use echo.",
        "type": "not_found_error",
        "code": "not-found",
        "param": None,
    }
    assert missing.value.request_id
    with pytest.raises(openai.BadRequestError) as wrong:
        await client.chat.completions.create(model="m", messages=[{"role": "user"}])  # type: ignore[list-item]
    assert (wrong.value.code, wrong.value.param) == ("invalid-input", "messages.0.content")
    with pytest.raises(openai.InternalServerError) as broken:
        await client.chat.completions.create(**ask(model="broken"))
    assert broken.value.code == "internal"
    assert "a bug" not in str(broken.value)


async def test_a_wrong_key_and_an_unknown_path_are_errors_of_the_api_too(running: Any) -> None:
    async with client_of(running, "kaon_wrong") as stranger:
        with pytest.raises(openai.AuthenticationError) as refused:
            await stranger.chat.completions.create(**ask())
        assert refused.value.type == "authentication_error"
    async with client_of(running, KEY) as client:
        with pytest.raises(openai.NotFoundError) as missing:
            await client.moderations.create(input="a")
        assert missing.value.type == "not_found_error"
    plain = await running.client.post("/nowhere")
    assert plain.headers["content-type"] == "application/problem+json"
    unreadable = await running.client.post("/v1/%ff")
    assert unreadable.status_code == 400


async def test_an_error_within_a_stream_reaches_the_client(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(**ask("one fail", stream=True))
    with pytest.raises(openai.APIError, match=r"The model is busy\."):
        _ = [chunk async for chunk in stream]


async def test_an_error_before_the_first_chunk_has_its_status(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as error:
        await client.chat.completions.create(**ask("fail", stream=True))
    assert error.value.status_code == 503


@pytest.mark.parametrize(("text", "model", "stream"), [("a wait", "echo", True), ("", "hangs", False)])
async def test_a_caller_who_disconnects_ends_both_forms(
    running: Any, eventually: Any, text: str, model: str, stream: bool
) -> None:
    lane = running.lane("complete")
    body = json.dumps(ask(text, model, stream=stream)).encode()
    _, writer = await running.raw()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
    writer.write(f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
    await eventually(lambda: lane.busy == 1)
    writer.close()
    await eventually(lambda: lane.busy == 0)
    assert lane.in_flight == 0


async def test_a_method_in_a_thread_keeps_its_slot_until_it_returns(running: Any, eventually: Any) -> None:
    lane = running.lane("in_thread")
    late = await running.client.post("/v1/completions", json=ask(model="waits"), headers={"x-request-timeout": "0.05"})
    assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline-exceeded")
    assert lane.busy == 1
    running.instance.release.set()
    await eventually(lambda: lane.busy == 0)


@pytest.mark.parametrize(
    ("body", "expected"), [({"number": 2}, b"2"), ({"number": 2, "stream": True}, b"data: 0\n\ndata: 1\n\n")]
)
async def test_any_endpoint_may_answer_once_or_stream(running: Any, body: dict[str, Any], expected: bytes) -> None:
    assert (await running.client.post("/plain", json=body)).content == expected


async def test_a_method_that_returns_an_iterator_is_a_stream(running: Any) -> None:
    assert (await running.client.post("/always", json={"number": 2})).content == b"data: 0\n\ndata: 1\n\n"


def test_handles_get_the_answer_or_the_items() -> None:
    with kaon.local(chat=Chat()):
        chat, named = kaon.use(Chat), kaon.use("chat")
        assert chat.plain(number=2) == named.plain(number=2) == 2
        assert list(chat.plain(number=2, stream=True)) == list(named.plain(number=2, stream=True)) == [0, 1]
        assert list(named.always(number=3)) == [0, 1, 2]
        answer = chat.complete(ChatRequest.model_validate(ask()))
        assert answer == completion("echo", "hello there")
        items = chat.complete(ChatRequest.model_validate(ask(stream=True)))
        assert list(items) == [chunk("echo", "hello"), chunk("echo", "there")]


async def test_handles_of_coroutines_get_the_answer_or_the_items() -> None:
    with kaon.local(chat=Chat()):
        chat = kaon.use(Chat)
        assert await chat.aio.plain(number=2) == 2
        assert [item async for item in chat.aio.plain(number=2, stream=True)] == [0, 1]
        with pytest.raises(kaon.InvalidInput, match="not a stream"):
            _ = [item async for item in chat.aio.plain(number=2)]


async def test_the_calls_are_counted_with_their_status(running: Any) -> None:
    await running.client.post("/v1/chat/completions", json=ask())
    await running.client.post("/v1/chat/completions", json=ask(model="missing"))
    assert running.lane("complete").figures.codes == {200: 1, 404: 1}


async def test_the_document_has_both_forms(running: Any) -> None:
    document = (await running.client.get("/openapi.json")).json()
    operation = document["paths"]["/v1/chat/completions"]["post"]
    content = operation["responses"]["200"]["content"]
    assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/Completion"}
    assert content["text/event-stream"]["schema"]["x-item"] == {"$ref": "#/components/schemas/Chunk"}
    assert operation["x-kaon"]["answers_once"] is True
    assert operation["x-kaon"]["protocol"] == "openai"
    assert operation["responses"]["default"] == {"$ref": "#/components/responses/OpenAIError"}
    assert "404" in document["paths"]["/plain"]["post"]["responses"]


def test_clients_on_a_port_need_the_url_and_the_key_only(start_replica: Any, free_port: Any) -> None:
    source = "from tests.unit.runtime.test_openai import Chat as Work"
    access, address = Access(grants=(Grant(hash=key_hash(KEY), key="tester"),)), f"127.0.0.1:{free_port()}"
    environ = {"PYTHONPATH": str(Path(__file__).parents[3])}
    start_replica(source, environ=environ, service_address=address, access=access).ready()
    url = f"http://{address}"
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=KEY)
    assert client.chat.completions.create(**ask()).choices[0].message.content == "hello there"
    stream = client.chat.completions.create(**ask(stream=True))
    assert [chunk.choices[0].delta.content for chunk in stream] == ["hello", "there"]
    with kaon.Client(url, KEY) as own:
        assert own.complete(**ask())["choices"][0]["message"]["content"] == "hello there"
        assert len(list(own.complete(**ask(stream=True)))) == 2
        with pytest.raises(kaon.NotFound, match="no model"):
            own.complete(**ask(model="missing"))
        with pytest.raises(kaon.Unavailable, match="busy"):
            list(own.complete(**ask("one fail", stream=True)))
        assert b"".join(own.speak({"input": "hi"})) == b"RIFFhi"

    async def calls() -> None:
        async with kaon.AsyncClient(url, KEY) as own:
            assert (await own.complete(**ask()))["object"] == "chat.completion"
            assert len([item async for item in own.complete(**ask(stream=True))]) == 2
            assert len(await own.complete(**ask(stream=True))) == 2
            with pytest.raises(kaon.InvalidInput, match="answered once"):
                _ = [item async for item in own.complete(**ask())]

    asyncio.run(calls())


def test_a_client_calls_the_service_under_test() -> None:
    with kaon.testing.client(Chat) as chat, openai.OpenAI(base_url=f"{chat.url}/v1", api_key=chat.key) as client:
        assert client.chat.completions.create(**ask()).choices[0].message.content == "hello there"
        stream = client.chat.completions.create(**ask(stream=True))
        assert [chunk.choices[0].delta.content for chunk in stream] == ["hello", "there"]
