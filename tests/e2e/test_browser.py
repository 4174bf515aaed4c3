"""Pages in a real Chromium call a deployment through the real edge: across origins, by WebSockets, from its docs page.

`make test-browser` runs these and fails where the browser cannot be obtained; `make test` skips them there.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from tests.waiting import eventually

from .browser import PATIENCE_MS, Chromium, NotObtainable, chromium
from .world import World

pytestmark = pytest.mark.timeout(900)

CALL = """async ([url, init]) => {
    const answer = await fetch(url, init);
    const headers = Object.fromEntries(answer.headers);
    const text = await answer.text();
    return { status: answer.status, headers, body: text ? JSON.parse(text) : null };
}"""
FAILING_CALL = "([url, init]) => fetch(url, init).then((answer) => `status ${answer.status}`, (error) => error.name)"
READ = """async ([url, init]) => {
    const pieces = [];
    for await (const piece of (await fetch(url, init)).body.pipeThrough(new TextDecoderStream())) pieces.push(piece);
    return pieces.join("");
}"""
TALK = """([url, protocols, text]) => new Promise((resolve) => {
    const socket = new WebSocket(url, protocols), seen = [];
    socket.onopen = () => { seen.push(`open ${socket.protocol}`); socket.send(text); };
    socket.onmessage = (event) => { seen.push(event.data); socket.close(); };
    socket.onclose = (event) => resolve([...seen, event.wasClean ? "closed" : `failed ${event.code}`]);
})"""


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        page = b"<!doctype html><link rel=icon href=data:,><title>page</title>"
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: Any) -> None:
        pass


class Site:
    """A web site with one empty page, under two names that are two origins."""

    def __init__(self, port: int) -> None:
        self.allowed, self.other = f"http://127.0.0.1:{port}", f"http://localhost:{port}"


class Visit:
    """A page that is open, and what its console and its network have shown."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        self.hosts: set[str] = set()
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.hosts.add(request.url.partition("://")[2].partition("/")[0]))

    def run(self, script: str, *arguments: Any) -> Any:
        return self.page.evaluate(script, list(arguments))


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield Site(server.server_port)
    server.shutdown()
    server.server_close()
    serving.join()


@pytest.fixture(scope="module")
def installed() -> Chromium:
    try:
        return chromium()
    except NotObtainable as error:
        if os.environ.get("KAON_BROWSER"):
            raise
        pytest.skip(f"no Chromium: {error}")


@pytest.fixture(scope="module")
def pages(installed: Chromium, site: Site, shared_platform: World) -> World:
    """The platform with `pages`, which the site's first origin may call. The browser is obtained before it starts."""
    shared_platform.kaon("deploy", "pages.py:Pages", "--set", f'cors.origins=["{site.allowed}"]')
    return shared_platform


@pytest.fixture(scope="module")
def browser(installed: Chromium, pages: World) -> Iterator[Any]:
    """Closed before the platform ends: while it is open, Playwright runs an event loop in this thread."""
    with installed.opened() as browser:
        yield browser


Visiting = Callable[[str], Visit]


@pytest.fixture
def visit(browser: Any) -> Iterator[Visiting]:
    """`visit(url)` opens a page in a new profile."""
    contexts = []

    def open_page(url: str) -> Visit:
        contexts.append(browser.new_context())
        contexts[-1].set_default_timeout(PATIENCE_MS)
        visit = Visit(contexts[-1].new_page())
        visit.page.goto(url)
        return visit

    yield open_page
    for context in contexts:
        context.close()


def post(pages: World, **body: Any) -> dict[str, Any]:
    headers = pages.bearer | {"content-type": "application/json", "x-own": "mine"}
    return {"method": "POST", "headers": headers, "body": json.dumps(body)}


def test_a_page_of_an_allowed_origin_calls_with_a_key(pages: World, site: Site, visit: Visiting) -> None:
    page = visit(site.allowed)
    requests = page.page.context.new_cdp_session(page.page)
    methods: list[str] = []
    requests.on("Network.requestWillBeSent", lambda event: methods.append(event["request"]["method"]))
    requests.send("Network.enable")
    answer = page.run(CALL, f"{pages.url}/pages/greet", post(pages, name="page"))
    assert answer["status"] == 200
    assert answer["body"] == {"greeting": "hello page", "own": "mine", "cookie": ""}
    assert answer["headers"]["x-request-id"]
    eventually(lambda: page.run("() => true") and sorted(methods) == ["OPTIONS", "POST"], "there was a preflight")
    assert page.errors == []


def test_a_page_reads_why_a_call_failed(pages: World, site: Site, visit: Visiting) -> None:
    page = visit(site.allowed)
    refused = page.run(CALL, f"{pages.url}/pages/things/7", {"method": "PUT", "headers": pages.bearer})
    assert (refused["status"], refused["body"]["detail"]) == (404, "There is no thing 7.")
    keyless = page.run(CALL, f"{pages.url}/pages/greet", {"method": "POST"})
    assert (keyless["status"], keyless["body"]["code"]) == (401, "unauthenticated")
    wrong = page.run(CALL, f"{pages.url}/pages/greet", {"method": "POST", "headers": {"authorization": "Bearer wrong"}})
    assert (wrong["status"], wrong["body"]["request_id"]) == (401, wrong["headers"]["x-request-id"])


def test_a_page_reads_a_stream_as_it_comes(pages: World, site: Site, visit: Visiting) -> None:
    text = visit(site.allowed).run(READ, f"{pages.url}/pages/count", post(pages, to=3))
    assert [line for line in text.splitlines() if line.startswith("data:")] == ["data: 0", "data: 1", "data: 2"]


def test_a_page_sends_cookies_where_the_deployment_allows_it(pages: World, site: Site, visit: Visiting) -> None:
    page, url = visit(site.allowed), f"{pages.url}/pages/greet"
    with_cookies = post(pages, name="page") | {"credentials": "include"}
    assert page.run(FAILING_CALL, url, with_cookies) == "TypeError"
    pages.kaon("set", "pages", "cors.credentials=true", 'cors.headers=["x-own"]')
    try:
        eventually(lambda: page.run(FAILING_CALL, url, with_cookies) == "status 200", "the page may send cookies")
        assert page.run(CALL, url, with_cookies)["body"] == {"greeting": "hello page", "own": "mine", "cookie": "1"}
    finally:
        pages.kaon("set", "pages", "cors.credentials=false", "cors.headers=[]")
    eventually(lambda: page.run(FAILING_CALL, url, with_cookies) == "TypeError", "it may not any more")


def test_pages_of_other_origins_neither_call_nor_connect(pages: World, site: Site, visit: Visiting) -> None:
    page = visit(site.other)
    assert page.run(FAILING_CALL, f"{pages.url}/pages/greet", post(pages, name="page")) == "TypeError"
    assert page.run(FAILING_CALL, f"{pages.url}/pages/openapi.json", {"headers": pages.bearer}) == "TypeError"
    assert any("blocked by CORS policy" in error for error in page.errors)
    socket = f"ws://127.0.0.1:{pages.port}/pages/talk"
    assert page.run(TALK, socket, ["kaon", f"kaon.key.{pages.key}"], "hello") == ["failed 1006"]


@pytest.mark.parametrize("at", ["127.0.0.1:{port}/pages", "pages.localhost:{port}"])
def test_a_page_opens_a_websocket_with_its_key(pages: World, site: Site, visit: Visiting, at: str) -> None:
    page, url = visit(site.allowed), f"ws://{at.format(port=pages.port)}/talk"
    assert page.run(TALK, url, ["kaon", f"kaon.key.{pages.key}"], "hello") == ["open kaon", "hello None", "closed"]
    assert page.run(TALK, url, ["kaon", "kaon.key.wrong"], "hello") == ["failed 1006"]
    assert page.run(TALK, url, ["kaon"], "hello") == ["failed 1006"]


@pytest.mark.parametrize("at", ["http://127.0.0.1:{port}/pages/docs", "http://pages.localhost:{port}/docs"])
def test_the_docs_page_sends_a_call_and_loads_nothing_from_elsewhere(pages: World, visit: Visiting, at: str) -> None:
    url = at.format(port=pages.port)
    opened = visit(url)
    page = opened.page
    page.get_by_text("This deployment is closed. Enter a key to see it.").wait_for()
    assert len(opened.errors) == 1  # the browser's own line about the 401
    assert "401" in opened.errors.pop()
    page.get_by_label("Key").fill(pages.key)
    page.get_by_label("Key").press("Enter")
    endpoint = page.locator("article#greet")
    endpoint.get_by_text("Try it").click()
    endpoint.get_by_label("Body").fill('{"name": "reader"}')
    endpoint.get_by_role("button", name="Send").click()
    endpoint.get_by_text("hello reader").wait_for()
    assert "200" in endpoint.locator(".status").inner_text()
    mounted = page.locator('article[id="orders.order"]')
    assert "/orders/order" in mounted.locator(".head").inner_text()
    mounted.get_by_text("Try it").click()
    mounted.get_by_label("x-buyer").fill("reader")
    mounted.get_by_role("button", name="Send").click()
    mounted.get_by_text('"by": "reader"').wait_for()
    assert '"article": ""' in mounted.locator("pre.answer").inner_text()  # a sample made of the schema
    page.get_by_label("Find an endpoint").fill("count")
    assert page.locator("article:visible").count() == 1
    assert opened.errors == []
    assert opened.hosts == {url.partition("://")[2].partition("/")[0]}
