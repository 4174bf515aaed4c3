"""Plain calls: keys, deadlines, concurrency; the same on the fast path and through ASGI."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from typing import Any

import pytest
from tests.waiting import forever, lasts, turns

import kaon
from kaon import context
from kaon.runtime.lane import THREAD_SLOTS
from kaon.types.key import Access, Grant, key_hash

ambient: contextvars.ContextVar[str] = contextvars.ContextVar("ambient", default="clean")


@kaon.service
class Calls:
    def __init__(self) -> None:
        self.at_once = 0
        self.most = 0
        self.gate = threading.Event()
        self.gate.set()
        self.cancelled = 0
        self.let_go = asyncio.Event()

    @kaon.endpoint
    async def echo(self, text: str) -> str:
        return text

    @kaon.endpoint
    async def echo_later(self, text: str, wait_s: float = 0.0) -> str:
        await lasts(wait_s)
        return text

    @kaon.endpoint(method="GET")
    def add(self, a: int, b: int = 2) -> int:
        return a + b

    @kaon.endpoint(method="GET", path="/items/{item}")
    async def item(self, item: int) -> int:
        return item

    @kaon.endpoint
    async def fails(self) -> int:
        raise RuntimeError("the password is hunter2")

    @kaon.endpoint
    async def refuses(self) -> int:
        raise kaon.KaonError("no such thing", hint="try another")

    @kaon.endpoint
    async def lies(self) -> int:
        return "not a number"  # type: ignore[return-value]

    @kaon.endpoint(concurrency=1, timeout_s=0.2)
    def single(self, wait: bool = True) -> int:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        if wait:
            self.gate.wait(60)
        self.at_once -= 1
        return self.most

    @kaon.endpoint(concurrency=1)
    async def held(self) -> None:
        await self.let_go.wait()

    @kaon.endpoint(concurrency=1)
    async def one_by_one(self, wait_s: float) -> int:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await lasts(wait_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.at_once -= 1
        return self.most

    @kaon.endpoint
    async def whose(self) -> list[Any]:
        left = context.deadline.get()
        return [context.request_id.get(), None if left is None else round(left - time.monotonic(), 1)]

    @kaon.endpoint
    def whose_in_thread(self) -> list[Any]:
        left = context.deadline.get()
        return [context.request_id.get(), None if left is None else round(left - time.monotonic(), 1)]

    @kaon.endpoint
    async def stains(self) -> str:
        before = ambient.get()
        ambient.set("stained")
        return before

    @kaon.endpoint
    async def times_out_inside(self) -> str:
        try:
            async with asyncio.timeout(0.02):
                await forever()
        except TimeoutError:
            return "in time"
        return "late"


# The same request, plain (fast path) and with an escaped path, which the fast path leaves to ASGI.
BOTH_WAYS = pytest.mark.parametrize("path", ["/echo", "/%65cho"])


@BOTH_WAYS
async def test_a_call_is_answered(serve: Any, path: str) -> None:
    running = await serve(Calls)
    answer = await running.client.post(path, json={"text": "hé"}, headers={"x-request-id": "abc"})
    assert (answer.status_code, answer.json()) == (200, "hé")
    assert answer.headers["x-request-id"] == "abc"
    assert running.lane("echo").figures.codes == {200: 1}


@BOTH_WAYS
@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        (None, "has no key"),
        ("Basic abc", "Bearer KEY"),
        ("Bearer kaon_wrong", "unknown"),
        ("Bearer", "unknown"),
        ("Bearer kaon_old", "expired"),
    ],
)
async def test_strangers_are_refused(serve: Any, path: str, authorization: str | None, expected: str) -> None:
    grants = (
        Grant(hash=key_hash("kaon_testing"), key="tester"),
        Grant(hash=key_hash("kaon_old"), key="old", expires_at=1.0),
    )
    running = await serve(Calls, access=Access(grants=grants))
    del running.client.headers["authorization"]
    headers = {"authorization": authorization} if authorization else {}
    answer = await running.client.post(path, json={"text": "a"}, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert expected in answer.text
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/echo", "/nothing", "/openapi.json", "/items/1"])
async def test_without_a_key_nothing_shows_what_there_is(serve: Any, path: str) -> None:
    running = await serve(Calls)
    del running.client.headers["authorization"]
    assert (await running.client.get(path)).status_code == 401


async def test_a_public_deployment_needs_no_key(serve: Any) -> None:
    running = await serve(Calls, access=Access(public=True))
    del running.client.headers["authorization"]
    assert (await running.client.post("/echo", json={"text": "a"})).json() == "a"


async def test_access_changes_with_the_next_request(serve: Any) -> None:
    running = await serve(Calls)
    assert (await running.client.post("/echo", json={"text": "a"})).status_code == 200
    other = Access(grants=(Grant(hash=key_hash("kaon_new"), key="new"),))
    put = await running.control_client.put("/access", content=other.model_dump_json())
    assert put.status_code == 204
    assert (await running.client.post("/echo", json={"text": "a"})).status_code == 401
    running.client.headers["authorization"] = "Bearer kaon_new"
    assert (await running.client.post("/echo", json={"text": "a"})).status_code == 200


async def test_a_key_that_was_good_is_refused_from_its_expiry_on(serve: Any) -> None:
    grant = Grant(hash=key_hash("kaon_testing"), key="tester", expires_at=1_700_000_060.0)
    running = await serve(Calls, access=Access(grants=(grant,)))
    assert (await running.client.post("/echo", json={"text": "a"})).status_code == 200
    running.clock.jump(60)
    assert (await running.client.post("/echo", json={"text": "a"})).status_code == 401


async def test_before_it_is_ready_a_replica_says_when_to_come_back(serve: Any) -> None:
    running = await serve(Calls, open_door=False)
    answer = await running.client.post("/echo", json={"text": "a"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert (await running.control_client.get("/live")).status_code == 200
    ready = await running.control_client.get("/ready")
    assert (ready.status_code, ready.json()["phase"]) == (503, "Loading")


async def test_query_and_path_parameters_reach_the_handler(serve: Any) -> None:
    running = await serve(Calls)
    assert (await running.client.get("/add?a=40")).json() == 42
    assert (await running.client.get("/add", params={"a": 1, "b": 1})).json() == 2
    assert (await running.client.get("/items/7")).json() == 7
    wrong = await running.client.get("/add?b=1")
    assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid-input")


async def test_wrong_paths_and_verbs_say_so(serve: Any) -> None:
    running = await serve(Calls)
    assert (await running.client.get("/nothing")).status_code == 404
    wrong = await running.client.get("/echo")
    assert (wrong.status_code, wrong.json()["hint"]) == (405, "Use POST.")


@pytest.mark.parametrize(
    ("path", "allow"), [("/echo", "OPTIONS, POST"), ("/add", "GET, HEAD, OPTIONS"), ("/items/1", "GET, HEAD, OPTIONS")]
)
async def test_the_verbs_of_a_path_are_listed(serve: Any, path: str, allow: str) -> None:
    running = await serve(Calls)
    wrong = await running.client.request("PATCH", path)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, allow)
    asked = await running.client.options(path)
    assert (asked.status_code, asked.headers["allow"], asked.content) == (200, allow, b"")
    assert (await running.client.options("/nowhere")).status_code == 404
    assert (await running.client.options(path, headers={"authorization": ""})).status_code == 401


@pytest.mark.parametrize("prefix", ["", "/%66ails", "/fails"])
async def test_a_failing_handler_leaks_nothing(serve: Any, prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    running = await serve(Calls)
    answer = await running.client.post(prefix or "/fails", json={})
    assert answer.status_code == 500
    assert "hunter2" not in answer.text
    assert "Traceback" not in answer.text
    assert "RuntimeError" not in answer.text
    assert any("hunter2" in str(record.exc_info) for record in caplog.records)


async def test_an_error_that_is_meant_for_callers_reaches_them(serve: Any) -> None:
    running = await serve(Calls)
    answer = await running.client.post("/refuses", json={})
    assert (answer.json()["detail"], answer.json()["hint"]) == ("no such thing", "try another")


async def test_an_answer_that_breaks_its_hint_is_a_bad_answer(serve: Any) -> None:
    running = await serve(Calls)
    answer = await running.client.post("/lies", json={})
    assert (answer.status_code, answer.json()["code"]) == (502, "bad-answer")


@pytest.mark.parametrize("path", ["/whose", "/whose-in-thread"])
async def test_request_id_and_deadline_are_carried_into_the_handler(serve: Any, path: str) -> None:
    running = await serve(Calls)
    headers = {"x-request-id": "r-1", "x-request-timeout": "7.5"}
    assert (await running.client.post(path, json={}, headers=headers)).json() == ["r-1", 7.5]
    assert (await running.client.post(path, json={})).json()[1] == 60.0


async def test_the_smaller_of_both_deadlines_wins(serve: Any) -> None:
    running = await serve(Calls)
    headers = {"x-request-timeout": "0.05"}
    answer = await running.client.post("/echo-later", json={"text": "a", "wait_s": 3}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (504, "deadline-exceeded")
    headers = {"x-request-timeout": "500"}
    answer = await running.client.post("/single", json={"wait": False}, headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize("asked", ["0", "-1", "soon", "nan", "inf"])
async def test_an_invalid_deadline_is_refused(serve: Any, asked: str) -> None:
    running = await serve(Calls)
    answer = await running.client.post("/echo", json={"text": "a"}, headers={"x-request-timeout": asked})
    assert answer.status_code == 400


async def test_what_one_call_sets_in_its_context_no_other_sees(serve: Any) -> None:
    running = await serve(Calls)
    assert [(await running.client.post("/stains", json={})).json() for _ in range(3)] == ["clean"] * 3


async def test_handlers_may_use_timeouts_of_their_own(serve: Any) -> None:
    running = await serve(Calls)
    assert (await running.client.post("/times-out-inside", json={})).json() == "in time"


async def test_a_timed_out_sync_call_keeps_its_slot_until_its_thread_ends(serve: Any, eventually: Any) -> None:
    running = await serve(Calls)
    lane = running.lane("single")
    running.instance.gate.clear()
    assert (await running.client.post("/single", json={})).status_code == 504
    assert (lane.busy, lane.in_flight) == (1, 0)
    behind = asyncio.create_task(running.client.post("/single", json={"wait": False}))
    await eventually(lambda: lane.queued == 1)
    assert (await behind).status_code == 504
    running.instance.gate.set()
    await eventually(lambda: lane.busy == 0)
    assert (await running.client.post("/single", json={"wait": False})).json() == 1


async def test_concurrency_one_is_never_two(serve: Any) -> None:
    running = await serve(Calls)
    answers = await asyncio.gather(*(running.client.post("/one-by-one", json={"wait_s": 0.001}) for _ in range(30)))
    assert [answer.json() for answer in answers] == [1] * 30


async def test_a_caller_that_leaves_stops_its_handler_and_frees_the_slot(serve: Any, eventually: Any) -> None:
    running = await serve(Calls)
    lane = running.lane("one_by_one")
    task = asyncio.create_task(running.client.post("/one-by-one", json={"wait_s": 30}))
    await eventually(lambda: lane.busy == 1)
    task.cancel()
    await eventually(lambda: lane.busy == 0 and lane.in_flight == 0)
    assert running.instance.cancelled == 1
    assert (await running.client.post("/one-by-one", json={"wait_s": 0})).status_code == 200


async def test_a_full_queue_refuses_with_the_time_to_come_back(serve: Any, eventually: Any) -> None:
    running = await serve(Calls)
    lane = running.lane("held")
    lane.queue_bound = 4  # of which one key may have half
    tasks = []
    for count in range(3):
        tasks.append(asyncio.create_task(running.client.post("/held")))
        await eventually(lambda count=count: lane.in_flight == count + 1)
    refused = await running.client.post("/held")
    running.instance.let_go.set()
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["retry_after_s"] > 0
    assert [(await task).status_code for task in tasks] == [200, 200, 200]


async def test_with_64_clients_no_call_is_refused_below_the_bound(serve: Any) -> None:
    running = await serve(Calls)

    async def one_client() -> set[int]:
        paths = (("/add?a=1", None), ("/echo-later", {"text": "a", "wait_s": 0.001}), ("/echo", {"text": "a"}))
        return {
            (await (running.client.post(p, json=body) if body else running.client.get(p))).status_code
            for _ in range(5)
            for p, body in paths
        }

    assert set().union(*await asyncio.gather(*(one_client() for _ in range(64)))) == {200}
    for lane in running.serving.lanes:
        assert (lane.in_flight, lane.queued, lane.busy) == (0, 0, 0)
    assert running.lane("add").slots == THREAD_SLOTS


async def test_in_flight_is_never_negative_and_zero_after_quiet(serve: Any, eventually: Any) -> None:
    running = await serve(Calls)
    lows: list[int] = []
    done = asyncio.Event()

    async def watch() -> None:
        while not done.is_set():
            lows.extend(min(lane.in_flight, lane.queued, lane.busy) for lane in running.serving.lanes)
            await turns(1)

    async def storm(number: int) -> None:
        call = running.client.post("/one-by-one", json={"wait_s": 0.002}, headers={"x-request-timeout": "0.05"})
        task = asyncio.create_task(call)
        await lasts(0.001 * (number % 7))
        if number % 3 == 0:
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(storm(number) for number in range(60)))
    await eventually(lambda: running.serving.in_flight == 0 and running.lane("one_by_one").busy == 0)
    done.set()
    await watching
    assert min(lows) >= 0
    assert running.serving.queued == 0


async def test_metrics_have_their_documented_names(serve: Any) -> None:
    from kaon.runtime.metrics import METRICS

    running = await serve(Calls)
    await running.client.post("/echo", json={"text": "a"})
    await running.client.post("/echo", json={"text": 1})
    text = (await running.control_client.get("/metrics")).text
    assert all(f"# TYPE {name.removesuffix('_total')}" in text for name in METRICS)
    assert 'kaon_requests_total{code="200",endpoint="echo"} 1.0' in text
    assert 'kaon_requests_total{code="400",endpoint="echo"} 1.0' in text
    assert 'kaon_request_seconds_count{endpoint="echo"} 2.0' in text
    assert 'kaon_in_flight{endpoint="echo"} 0.0' in text


async def test_the_openapi_document_is_served_under_the_prefix(serve: Any) -> None:
    running = await serve(Calls)
    document = (await running.client.get("/openapi.json")).json()
    assert document["servers"] == [{"url": "/prefix"}]
    assert "/echo" in document["paths"]


async def test_the_docs_page_needs_no_key_and_allows_no_foreign_script(serve: Any) -> None:
    running = await serve(Calls)
    page = await running.client.get("/docs")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in page.headers["content-security-policy"]


async def test_mounted_apps_have_the_same_checks(serve: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = f"{scope['root_path']} {scope['path']}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    @kaon.service(mounts={"/ui": app})
    class Mounted:
        @kaon.endpoint
        async def echo(self, text: str) -> str:
            return text

    running = await serve(Mounted)
    assert (await running.client.get("/ui/page")).text == "/ui /ui/page"
    assert running.serving.others.codes == {200: 1}
    assert running.serving.in_flight == 0
    del running.client.headers["authorization"]
    assert (await running.client.get("/ui/page")).status_code == 401


async def test_files_come_by_form_and_by_raw_body(serve: Any) -> None:
    @kaon.service
    class Files:
        @kaon.endpoint
        def size(self, file: kaon.File) -> int:
            return len(file.content)

        @kaon.endpoint
        def back(self, file: kaon.File, times: int = 1) -> kaon.File:
            return kaon.File(file.content * times, media_type="text/plain")

    running = await serve(Files)
    assert (await running.client.post("/size", content=b"12345", headers={"content-type": "image/png"})).json() == 5
    answer = await running.client.post("/back", files={"file": ("a.txt", b"ab", "text/plain")}, data={"times": "3"})
    assert (answer.content, answer.headers["content-type"]) == (b"ababab", "text/plain")
    bad = await running.client.post("/back", content=b"--x", headers={"content-type": "multipart/form-data"})
    assert bad.status_code == 400
