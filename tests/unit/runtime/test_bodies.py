"""Bodies as clients send them: compressed, in other encodings, as forms, too large, or not readable at all."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest
from tests.versions import newer

import kaon
from kaon.runtime import codings
from kaon.sdk import problems

TEXT = {"text": "hé + 100 %"}
FORM = {"content-type": "application/x-www-form-urlencoded"}


@kaon.service
class Bodies:
    @kaon.endpoint
    async def echo(self, text: str) -> str:
        return text

    @kaon.endpoint(max_body_bytes=100)
    async def small(self, text: str) -> int:
        return len(text)

    @kaon.endpoint
    async def numbers(self, values: list[int], by_name: dict[str, int] | None = None) -> int:
        return len(values)

    @kaon.endpoint
    async def anything(self, value: Any) -> Any:
        return value

    @kaon.endpoint
    async def send(
        self, text: str, file: kaon.File | None = None, photo: kaon.Image | None = None
    ) -> dict[str, str | bool]:
        return {"text": text, "file": file is not None, "photo": photo is not None}

    @kaon.endpoint
    async def album(self, photos: list[kaon.Image]) -> int:
        return len(photos)

    @kaon.endpoint
    async def maybe(self, file: kaon.File | None) -> bool:
        return file is not None

    @kaon.endpoint
    async def must(self, file: kaon.File) -> int:
        return len(file.content)


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("GZIP", lambda body: gzip.compress(body[:5]) + gzip.compress(body[5:])),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("identity", lambda body: body),
        ("deflate, gzip", lambda body: gzip.compress(zlib.compress(body))),
    ],
)
async def test_a_packed_body_is_unpacked(serve: Any, coding: str, pack: Any) -> None:
    running = await serve(Bodies)
    headers = {"content-type": "application/json", "content-encoding": coding}
    answer = await running.client.post("/echo", content=pack(json.dumps(TEXT).encode()), headers=headers)
    assert (answer.status_code, answer.json()) == (200, TEXT["text"])


async def test_another_coding_is_refused_by_name_with_the_supported_ones(serve: Any) -> None:
    running = await serve(Bodies)
    answer = await running.client.post("/echo", content=b"x", headers={"content-encoding": "br"})
    assert answer.status_code == 415
    assert "'br'" in answer.json()["detail"]
    assert "gzip or deflate" in answer.json()["hint"]
    assert answer.headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", b"{}"),
        ("gzip", gzip.compress(b"{}", mtime=0)[:-4]),
        ("deflate", zlib.compress(b"{}") + b"more"),
        ("gzip", gzip.compress(b"", mtime=0) * 1001),
    ],
)
async def test_a_body_that_is_not_packed_as_it_says_is_refused_with_the_reason(
    serve: Any, coding: str, body: bytes
) -> None:
    running = await serve(Bodies)
    answer = await running.client.post("/echo", content=body, headers={"content-encoding": coding})
    assert answer.status_code == 400
    assert f"is not {coding}" in answer.json()["detail"]


async def test_unpacking_stops_at_the_limit() -> None:
    made = 0
    pieces = codings._pieces

    def counted(body: bytes, window: int) -> Any:
        nonlocal made
        for piece in pieces(body, window):
            made += len(piece)
            yield piece

    bomb = gzip.compress(bytes(50 * 2**20))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codings, "_pieces", counted)
        with pytest.raises(kaon.KaonError) as error:
            await codings.decoded(b"gzip", bomb, 2**20)
    assert error.value.status == 413
    assert made <= 3 * 2**20


async def test_an_endpoints_own_limit_holds_for_plain_chunked_and_packed_bodies(serve: Any) -> None:
    running = await serve(Bodies)
    large = json.dumps({"text": "a" * 200}).encode()

    async def chunks() -> Any:
        yield large

    packed = {"content-encoding": "gzip"}
    answers = [
        await running.client.post("/small", content=large),
        await running.client.post("/small", content=chunks()),
        await running.client.post("/small", content=gzip.compress(large), headers=packed),
    ]
    assert [answer.status_code for answer in answers] == [413] * 3
    assert "100 bytes" in answers[0].json()["detail"]
    assert (await running.client.post("/small", json={"text": "a"})).json() == 1


async def test_a_chunked_body_is_taken_whole(serve: Any) -> None:
    running = await serve(Bodies)

    async def chunks() -> Any:
        for letter in json.dumps(TEXT).encode():
            yield bytes([letter])

    assert (await running.client.post("/echo", content=chunks())).json() == TEXT["text"]


@pytest.mark.parametrize("path", ["/echo", "/%65cho"])
async def test_json_may_begin_with_the_mark_of_utf8(serve: Any, path: str) -> None:
    running = await serve(Bodies)
    body = "\ufeff".encode() + json.dumps(TEXT, ensure_ascii=False).encode()
    headers = {"content-type": "application/json; charset=utf-8"}
    assert (await running.client.post(path, content=body, headers=headers)).json() == TEXT["text"]


@pytest.mark.parametrize("path", ["/echo", "/%65cho"])
@pytest.mark.parametrize(
    ("body", "why"),
    [
        ('{"text": "a"}'.encode("utf-16"), "UTF-16"),
        ('{"text": "a"}'.encode("utf-16-le"), "UTF-16"),
        pytest.param(
            *(b'{"text": "\xff"}', "line 1 column 11"),
            marks=newer("pydantic", "2.8", "counts columns from one more"),
        ),
        (b'{"text": "a",\n}', "line 2 column 1"),
        (b'{"text" "a"}', "expected `:` at line 1 column 9"),
        (b"[" * 100_000, "recursion limit"),
        (b'{"text": ' + b"9" * 50_000 + b"}", "number out of range"),
    ],
)
async def test_json_that_cannot_be_read_is_refused_with_the_reason_and_the_place(
    serve: Any, path: str, body: bytes, why: str
) -> None:
    running = await serve(Bodies)
    answer = await running.client.post(path, content=body)
    assert answer.status_code == 400
    assert why in answer.json()["detail"]


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
async def test_what_is_not_json_is_not_taken_for_a_number(serve: Any, word: str) -> None:
    running = await serve(Bodies)
    for path in ("/anything", "/%61nything"):
        answer = await running.client.post(path, content=b'{"value": [%b]}' % word.encode())
        assert (answer.status_code, "is not valid JSON" in answer.json()["detail"]) == (400, True)
    assert (await running.client.post("/anything", json={"value": f"a {word}"})).json() == f"a {word}"


@pytest.mark.parametrize(
    "body",
    [
        {"values": [], **{f"k{n}": 1 for n in range(50_000)}},
        {"values": ["a"] * 50_000},
        {"values": [], "by_name": {str(n): "x" for n in range(50_000)}},
    ],
    ids=["surplus keys", "wrong items", "wrong values"],
)
async def test_a_body_with_countless_mistakes_is_refused_without_an_error_for_each(serve: Any, body: Any) -> None:
    running = await serve(Bodies)
    made = 0
    problem = problems.problem

    def counted(where: str, why: str) -> Any:
        nonlocal made
        made += 1
        return problem(where, why)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(problems, "problem", counted)
        answer = await running.client.post("/numbers", json=body)
    assert answer.status_code == 400
    assert made <= problems.MOST
    assert len(answer.content) < 10_000


@pytest.mark.parametrize("path", ["/numbers", "/%6eumbers"])
async def test_every_mistake_of_a_small_body_is_reported(serve: Any, path: str) -> None:
    running = await serve(Bodies)
    answer = await running.client.post(path, json={"values": ["a", 1, "b"], "by_name": {"x": "y"}, "other": 1})
    places = {error["where"] for error in answer.json()["errors"]}
    assert places == {"body.values.0", "body.values.2", "body.by_name.x", "body.other"}


@newer("pydantic", "2.8", "reads a list to its end")
def test_a_wrong_item_ends_the_reading_of_its_list() -> None:
    signature = next(e for e in Bodies.__kaon_service__.endpoints if e.spec.name == "numbers").signature
    with pytest.raises(ValueError, match="values") as error:
        signature.body.bulk_reader.validate_json(json.dumps({"values": ["a"] * 10_000}).encode())
    assert error.value.error_count() == 1


@pytest.mark.parametrize(
    ("charset", "declared"),
    [("utf-8", ""), ("utf-8", "UTF-8"), ("iso-8859-1", "iso-8859-1"), ("cp1252", "windows-1252")],
)
@pytest.mark.parametrize("how", ["header", "field"])
async def test_a_form_is_read_in_the_charset_that_it_declares(
    serve: Any, charset: str, declared: str, how: str
) -> None:
    running = await serve(Bodies)
    field = f"&_charset_={declared}" if declared and how == "field" else ""
    kind = FORM["content-type"] + (f"; charset={declared}" if declared and how == "header" else "")
    percent = "".join(f"%{byte:02X}" for byte in "é".encode(charset))
    answer = await running.client.post("/send", content=f"text=h{percent}+%2B{field}", headers={"content-type": kind})
    assert (answer.status_code, answer.json()["text"]) == (200, "hé +")


async def test_a_multipart_form_is_read_in_utf8_or_the_charset_that_it_says(serve: Any) -> None:
    running = await serve(Bodies)

    def part(name: str, content: bytes) -> bytes:
        return b'--B\r\ncontent-disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (name.encode(), content)

    headers = {"content-type": "multipart/form-data; boundary=B"}
    plain = part("text", "hé".encode()) + b"--B--\r\n"
    latin = part("_charset_", b"iso-8859-1") + part("text", "hé".encode("latin-1")) + b"--B--\r\n"
    for body in (plain, latin):
        assert (await running.client.post("/send", content=body, headers=headers)).json()["text"] == "hé"
    wrong = part("text", "hé".encode("latin-1")) + b"--B--\r\n"
    answer = await running.client.post("/send", content=wrong, headers=headers)
    assert (answer.status_code, "not utf-8" in answer.json()["detail"]) == (400, True)


async def test_a_form_in_another_charset_is_refused_by_its_name(serve: Any) -> None:
    running = await serve(Bodies)
    headers = {"content-type": "application/x-www-form-urlencoded; charset=utf-16"}
    answer = await running.client.post("/send", content=b"text=a", headers=headers)
    assert (answer.status_code, "'utf-16'" in answer.json()["detail"]) == (415, True)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/x-www-form-urlencoded", b"&".join(b"a=1" for _ in range(2000))),
        ("multipart/form-data; boundary=B", b'--B\r\ncontent-disposition: form-data; name="a"\r\n\r\n\r\n' * 2000),
        ("multipart/form-data", b"--B--"),
    ],
)
async def test_a_form_that_cannot_be_read_is_refused_with_the_reason(serve: Any, kind: str, body: bytes) -> None:
    running = await serve(Bodies)
    answer = await running.client.post("/send", content=body, headers={"content-type": kind})
    assert answer.status_code == 400
    assert "fields" in answer.json()["detail"] or "boundary" in answer.json()["detail"].lower()


def empty_file(name: str) -> bytes:
    head = f'content-disposition: form-data; name="{name}"; filename=""\r\ncontent-type: application/octet-stream'
    return f"--B\r\n{head}\r\n\r\n\r\n".encode()


async def test_a_file_input_that_was_left_empty_is_no_file(serve: Any) -> None:
    running = await serve(Bodies)
    headers = {"content-type": "multipart/form-data; boundary=B"}

    async def post(path: str, *parts: bytes) -> Any:
        return await running.client.post(path, content=b"".join([*parts, b"--B--\r\n"]), headers=headers)

    text = b'--B\r\ncontent-disposition: form-data; name="text"\r\n\r\nhi\r\n'
    answer = await post("/send", text, empty_file("file"), empty_file("photo"))
    assert answer.json() == {"text": "hi", "file": False, "photo": False}
    assert (await post("/album", empty_file("photos"))).json() == 0
    assert (await post("/maybe", empty_file("file"))).json() is False
    answer = await post("/must", empty_file("file"))
    assert (answer.status_code, answer.json()["errors"]) == (400, [{"where": "form.file", "problem": "is required"}])


async def test_json_that_curl_calls_a_form_is_json_but_not_from_a_browser(serve: Any) -> None:
    running = await serve(Bodies)
    body = b' {"text": "a"}'
    assert (await running.client.post("/echo", content=body, headers=FORM)).json() == "a"
    for header in ({"origin": "https://elsewhere.example"}, {"sec-fetch-site": "cross-site"}):
        assert (await running.client.post("/echo", content=body, headers=FORM | header)).status_code == 415


async def test_a_body_of_another_media_type_is_refused_with_those_that_are_taken(serve: Any) -> None:
    running = await serve(Bodies)
    answer = await running.client.post("/echo", content=b"a", headers={"content-type": "text/plain"})
    assert (answer.status_code, answer.json()["hint"]) == (415, "Send application/json.")
