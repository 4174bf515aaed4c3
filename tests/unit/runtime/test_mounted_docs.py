"""The documents of mounted apps are part of their service's document."""

from __future__ import annotations

from typing import Annotated, Any

import fastapi
import pytest
from fastapi.security import OAuth2PasswordBearer
from openapi_spec_validator import validate
from pydantic import BaseModel

import kaon
from kaon.client.operation import operations
from kaon.sdk import mounted_docs


class Item(BaseModel):
    """The mounted apps' own, beside the service's."""

    parts: list[Item]


def app_with(title: str) -> fastapi.FastAPI:
    app = fastapi.FastAPI(title=title)

    @app.post("/items/{number}")
    async def keep(number: int, item: Item) -> Item:
        return item

    @app.get("/mine")
    async def mine(token: Annotated[str, fastapi.Depends(OAuth2PasswordBearer("token"))]) -> str:
        return token

    return app


class Failing:
    """An app that cannot describe itself."""

    openapi_url = "/openapi.json"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...

    def openapi(self) -> dict[str, Any]:
        raise RuntimeError("no schema for a lock")


class Older(Failing):
    def openapi(self) -> dict[str, Any]:
        return {"openapi": "3.0.2", "paths": {"/old": {}}}


@kaon.service(mounts={"/a": app_with("A"), "/b/c~d": lambda: app_with("B"), "/failing": Failing(), "/older": Older()})
class Shop:
    @kaon.endpoint
    def keep(self, item: Item) -> Item:
        return item


@pytest.fixture
async def document(serve: Any) -> dict[str, Any]:
    return (await (await serve(Shop)).client.get("/openapi.json")).json()  # type: ignore[no-any-return]


async def test_their_operations_are_below_the_mount_and_have_names_of_their_own(document: dict[str, Any]) -> None:
    validate(document)
    assert document["paths"].keys() == {"/keep", "/a/items/{number}", "/a/mine", "/b/c~d/items/{number}", "/b/c~d/mine"}
    for mount, name in (("/a", "a"), ("/b/c~d", "b_c_d")):
        kept = document["paths"][f"{mount}/items/{{number}}"]["post"]
        assert kept["operationId"].startswith(f"{name}.keep")
        assert kept["x-mount"] == mount
        schema = kept["requestBody"]["content"]["application/json"]["schema"]
        assert schema["$ref"].startswith(f"#/components/schemas/{name}.Item")
        own = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        assert own["properties"]["parts"]["items"] == schema
    assert [name for name in document["components"]["schemas"] if name.startswith("Item")]


async def test_what_an_app_requires_is_required_beside_the_key(document: dict[str, Any]) -> None:
    assert document["security"] == [{"key": []}]
    assert "security" not in document["paths"]["/a/items/{number}"]["post"]
    assert document["paths"]["/a/mine"]["get"]["security"] == [{"a.OAuth2PasswordBearer": [], "key": []}]
    assert "a.OAuth2PasswordBearer" in document["components"]["securitySchemes"]


async def test_an_app_that_cannot_describe_itself_is_linked(document: dict[str, Any]) -> None:
    listed = {mount["path"]: mount.get("openapi") for mount in document["x-mounts"]}
    assert (listed["/failing"], listed["/older"]) == ("/failing/openapi.json", "/older/openapi.json")


async def test_clients_call_endpoints_only(document: dict[str, Any]) -> None:
    assert operations(document).keys() == {"keep"}


def test_references_outside_of_components_stay() -> None:
    document: dict[str, Any] = {"paths": {}, "components": {"schemas": {}}}
    refers = {"$ref": "https://elsewhere.example/schema.json"}
    one_of = {"discriminator": {"propertyName": "k", "mapping": {"x": "#/components/schemas/X"}}}
    own = {"paths": {"/x": {"get": {"a": refers, "b": one_of}}}, "components": {"schemas": {"X": {}}}}
    mounted_docs.merge(document, "/m", own)
    operation = document["paths"]["/m/x"]["get"]
    assert (operation["a"], operation["operationId"]) == (refers, "m.get_x")
    assert operation["b"]["discriminator"]["mapping"] == {"x": "#/components/schemas/m.X"}
    assert own["paths"] == {"/x": {"get": {"a": refers, "b": one_of}}}
