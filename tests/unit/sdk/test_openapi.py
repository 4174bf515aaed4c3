import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

import kaon
from kaon.errors import ConfigError
from kaon.sdk.docs_page import docs_page
from kaon.sdk.service import service_of


class Reason(BaseModel):
    text: str
    weight: float = Field(ge=0, le=1)


class Product(BaseModel):
    product_id: int
    why: list[Reason] = []


@kaon.service
class Shop:
    """What a household may want."""

    @kaon.endpoint(method="GET", path="/", examples=[{"user_id": 7}])
    def recommend(self, user_id: int, k: Annotated[int, Field(ge=1, description="How many.")] = 10) -> list[Product]:
        """The products."""
        return []

    @kaon.endpoint(method="PUT", path="/products/{product_id}")
    def put(self, product_id: int, product: Product) -> Product: ...

    @kaon.endpoint(batch=kaon.Batch(max_size=8))
    def embed(self, texts: list[str]) -> list[list[float]]: ...

    @kaon.endpoint
    def look(self, image: kaon.Image, top: int = 3) -> kaon.File: ...

    @kaon.endpoint
    async def tell(self, prompt: str) -> AsyncIterator[str]:
        yield prompt

    @kaon.endpoint
    async def talk(self, socket: kaon.WebSocket) -> None: ...


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return service_of(Shop).openapi("/shop")


def test_every_endpoint_is_described(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert document["servers"] == [{"url": "/shop"}]
    said = {(o["operationId"], verb, path) for path, item in document["paths"].items() for verb, o in item.items()}
    assert said == {
        ("recommend", "get", "/"),
        ("put", "put", "/products/{product_id}"),
        ("embed", "post", "/embed"),
        ("look", "post", "/look"),
        ("tell", "post", "/tell"),
        ("talk", "get", "/talk"),
    }


def test_parameters_have_schema_default_description_and_example(document: dict[str, Any]) -> None:
    user, k = document["paths"]["/"]["get"]["parameters"]
    assert (user["name"], user["in"], user["required"], user["example"]) == ("user_id", "query", True, 7)
    assert k["schema"] == {"type": "integer", "minimum": 1, "default": 10}
    assert k["description"] == "How many."


def test_every_reference_is_defined_and_all_is_json(document: dict[str, Any]) -> None:
    text = json.dumps(document, allow_nan=False)
    for kind, name in re.findall(r'"#/components/(\w+)/([^"]+)"', text):
        assert name in document["components"][kind]


def test_errors_are_problems_and_keys_are_bearers(document: dict[str, Any]) -> None:
    responses = document["paths"]["/embed"]["post"]["responses"]
    told = {"400", "401", "403", "404", "409", "413", "415", "429", "503", "504", "default"}
    assert responses.keys() == {"200", *told}
    busy = document["components"]["responses"]["Unavailable"]
    assert "retry-after" in busy["headers"]
    assert list(busy["content"]) == ["application/problem+json"]
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


def test_bodies_and_answers_name_their_media_types(document: dict[str, Any]) -> None:
    paths = document["paths"]
    assert paths["/look"]["post"]["requestBody"]["content"].keys() == {"multipart/form-data", "application/json"}
    assert paths["/look"]["post"]["responses"]["200"]["content"].keys() == {"*/*"}
    assert paths["/tell"]["post"]["responses"]["200"]["content"].keys() == {
        "text/event-stream",
        "application/x-ndjson",
    }
    assert "101" in paths["/talk"]["get"]["responses"]
    assert paths["/products/{product_id}"]["put"]["x-kaon"]["body"] == "product"
    assert paths["/embed"]["post"]["x-kaon"]["batch"]["max_size"] == 8


def test_made_up_examples_fit_the_endpoint_that_they_are_for(document: dict[str, Any]) -> None:
    for endpoint in service_of(Shop).endpoints:
        operation = document["paths"][endpoint.spec.path][endpoint.spec.method.lower()]
        for example in (
            operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("examples", {}).values()
        ):
            endpoint.signature.from_json(json.dumps(example["value"]).encode(), dict.fromkeys(endpoint.path_names, "1"))


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    assert list(validator.OpenAPIV31SpecValidator(document).iter_errors()) == []


def test_the_docs_page_needs_nothing_from_elsewhere() -> None:
    page = docs_page()
    text = page.html.decode()
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#|openapi\.json)[^"']+""", text)
    assert "https://" not in text
    assert "innerHTML" not in text
    policy = dict(page.headers)["content-security-policy"]
    assert "default-src 'none'" in policy
    assert policy.count("'sha256-") == 2
    assert "unsafe" not in policy


def test_the_docs_page_stores_no_key() -> None:
    html = docs_page().html.decode()
    stored = re.findall(r"(?:local|session)Storage\.setItem\(([^,]+),|indexedDB|document\.cookie|caches\.", html)
    assert stored == ['"kaon-theme"']


def test_a_stream_of_bytes_is_described_by_its_media_type() -> None:
    @kaon.service
    class Speech:
        @kaon.endpoint(method="GET", media_type="audio/wav")
        def speak(self) -> Iterator[bytes]:
            yield b"RIFF"

        @kaon.endpoint(method="GET")
        def raw(self) -> Iterator[bytes]:
            yield b"RIFF"

        @kaon.endpoint(max_message_bytes=1000)
        async def talk(self, socket: kaon.WebSocket) -> None: ...

    paths = service_of(Speech).openapi()["paths"]
    assert list(paths["/speak"]["get"]["responses"]["200"]["content"]) == ["audio/wav"]
    assert paths["/speak"]["get"]["x-kaon"]["media_type"] == "audio/wav"
    assert list(paths["/raw"]["get"]["responses"]["200"]["content"]) == ["application/octet-stream"]
    assert paths["/talk"]["get"]["x-kaon"]["max_message_bytes"] == 1000


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"media_type": "audio"}, "has media_type='audio'"),
        ({"media_type": "audio/wav\r\nx: y"}, "has media_type="),
        ({"max_message_bytes": 10}, "has max_message_bytes=10"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):

        @kaon.service
        class Speech:
            @kaon.endpoint(method="GET", **options)
            def speak(self) -> Iterator[bytes]:
                yield b"RIFF"


def test_only_bytes_that_are_streamed_have_a_media_type() -> None:
    with pytest.raises(ConfigError, match="not a generator of bytes"):

        @kaon.service
        class Speech:
            @kaon.endpoint(media_type="audio/wav")
            def speak(self) -> Iterator[int]:
                yield 1
