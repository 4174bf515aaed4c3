"""A Flask app with a database, mounted in a real replica behind a real edge."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.runtime.replica_process import Process

from kaon.types.key import Access, Grant, key_hash
from kaon.types.route import ReplicaEndpoint

from .world import World, route

SERVICE = """
import flask, kaon, threading
from sqlalchemy import String, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

class Base(DeclarativeBase):
    pass

class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(200))

engine = create_engine(f"sqlite:///{kaon.data_dir()}/notes.db")
Base.metadata.create_all(engine)
site = flask.Flask(__name__)
site.secret_key = "x"
seen = threading.Event()

@site.get("/notes")
def notes():
    with Session(engine) as session:
        return [note.text for note in session.scalars(select(Note).order_by(Note.id))]

@site.post("/notes")
def add():
    with Session(engine) as session:
        session.add(Note(text=flask.request.form["text"]))
        session.commit()
    flask.session["added"] = flask.session.get("added", 0) + 1
    return flask.redirect(flask.url_for("notes"))

@site.get("/added")
def added():
    return {"added": flask.session.get("added", 0), "url": flask.request.url, "from": flask.request.remote_addr}

@site.post("/files/")
def keep():
    sent = flask.request.files["file"]
    sent.save(kaon.data_dir() / "kept")
    return {"name": sent.filename, "type": sent.mimetype, "bytes": (kaon.data_dir() / "kept").stat().st_size}

@site.get("/files/kept")
def kept():
    return flask.send_file(kaon.data_dir() / "kept", mimetype="application/octet-stream", conditional=True)

@site.get("/ticks")
def ticks():
    def each():
        yield "first\\n"
        assert seen.wait(60)
        yield "second\\n"
    return flask.Response(each(), mimetype="text/plain")

@site.post("/seen")
def set_seen():
    seen.set()
    return "", 204

@kaon.service(mounts={"/site": site})
class Work:
    @kaon.endpoint(method="GET")
    def ping(self) -> str:
        return "pong"
"""
KEY, SHOP = "kaon_good", ("default", "shop")
HEADERS = {"authorization": f"Bearer {KEY}"}


@pytest.fixture
def process() -> Iterator[Process]:
    access = Access(grants=(Grant(hash=key_hash(KEY), key="page"),))
    with tempfile.TemporaryDirectory(prefix="kaon-") as folder:
        (Path(folder) / "data").mkdir()
        started = Process(Path(folder), SERVICE, {}, {}, access=access)
        try:
            yield started.ready()
        finally:
            started.close()


@pytest.fixture
async def client(world: World, process: Process) -> Any:
    addresses = {"address": f"unix:{process.folder}/s", "control_address": f"unix:{process.folder}/c"}
    endpoint = ReplicaEndpoint(replica="a", revision=1, **addresses)
    await world.edge.apply((route(closed=True, stream_paths=("/site",)),), {SHOP: (endpoint,)})
    world.client.headers.update(HEADERS)
    return world.client


@pytest.mark.parametrize(("below", "host"), [("/shop", "127.0.0.1"), ("", "shop.localhost")])
async def test_a_form_is_kept_and_the_redirect_leads_below_the_prefix(
    world: World, client: Any, below: str, host: str
) -> None:
    own = {"host": f"{host}:{world.settings.port}"}
    posted = await client.post(f"{below}/site/notes", data={"text": "grüße & more"}, headers=own)
    assert (posted.status_code, posted.headers["location"]) == (302, f"{below}/site/notes")
    listed = await client.get(posted.headers["location"], headers=own)
    assert listed.json() == ["grüße & more"]
    cookie = posted.headers["set-cookie"].partition(";")[0]
    forged = {"x-forwarded-for": "6.6.6.6", "x-forwarded-prefix": "/other", "x-forwarded-proto": "https"}
    added = (await client.get(f"{below}/site/added", headers=own | forged | {"cookie": cookie})).json()
    assert added["added"] == 1
    assert added["url"] == f"http://{own['host']}{below}/site/added"
    assert added["from"] not in ("6.6.6.6", "")


async def test_a_path_without_its_slash_is_redirected_below_the_prefix(client: Any) -> None:
    answer = await client.post("/shop/site/files")
    assert (answer.status_code, answer.headers["location"].partition("/shop")[2]) == (308, "/site/files/")


async def test_a_file_is_uploaded_and_read_back_in_parts(client: Any) -> None:
    content = bytes(range(256)) * 20_000
    sent = await client.post("/shop/site/files/", files={"file": ("ä.bin", content, "image/png")})
    assert sent.json() == {"name": "ä.bin", "type": "image/png", "bytes": len(content)}
    whole = await client.get("/shop/site/files/kept")
    assert whole.content == content
    part = await client.get("/shop/site/files/kept", headers={"range": "bytes=256-511"})
    assert (part.status_code, part.content) == (206, bytes(range(256)))
    same = await client.get("/shop/site/files/kept", headers={"if-none-match": whole.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")


async def test_a_stream_arrives_as_it_is_made(client: Any) -> None:
    async with client.stream("GET", "/shop/site/ticks") as answer:
        lines = answer.aiter_lines()
        assert await anext(lines) == "first"
        assert (await client.post("/shop/site/seen")).status_code == 204
        assert [line async for line in lines] == ["second"]


async def test_head_and_options_are_the_apps(client: Any) -> None:
    head = await client.head("/shop/site/notes")
    get = await client.get("/shop/site/notes")
    assert (head.status_code, head.content) == (200, b"")
    assert (head.headers["content-type"], head.headers["content-length"]) == (
        get.headers["content-type"],
        get.headers["content-length"],
    )
    options = await client.options("/shop/site/notes")
    assert set(options.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}
    assert (await client.delete("/shop/site/notes")).status_code == 405
    for path, status in (("/shop/ping", 200), ("/shop/openapi.json", 200), ("/shop/nothing", 404)):
        bare = await client.head(path)
        assert (bare.status_code, bare.content) == (status, b"")
    assert (await client.options("/shop/ping")).headers["allow"] == "GET, HEAD, OPTIONS"


async def test_the_app_needs_the_key(world: World, client: Any) -> None:
    del client.headers["authorization"]
    assert (await client.get("/shop/site/notes")).status_code == 401
