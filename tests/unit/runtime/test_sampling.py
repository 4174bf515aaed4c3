"""Answers are kept for a shadow's comparison: only on request, bounded, readable on the control socket only."""

from __future__ import annotations

import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import kaon
from kaon.runtime.sampling import HEAD_BYTES, KEPT_BYTES, Sampler
from kaon.types.shadow import KeptAnswers, Sampling


@kaon.service
class Scorer:
    @kaon.endpoint
    async def score(self, text: str) -> dict[str, str]:
        if text == "bad":
            raise ValueError(text)
        return {"text": text}

    @kaon.endpoint(method="GET", path="/of/{name}")
    async def of(self, name: str) -> str:
        return name


Serve = Callable[..., Awaitable[Any]]


async def answers(running: Any, after: int = 0) -> KeptAnswers:
    return KeptAnswers.model_validate_json((await running.control_client.get(f"/answers?after={after}")).content)


async def call(running: Any, text: str, request_id: str) -> None:
    await running.client.post("/score", json={"text": text}, headers={"x-request-id": request_id})


async def test_nothing_is_kept_before_sampling_begins_or_after_it_ends(serve: Serve) -> None:
    running = await serve(Scorer)
    await call(running, "before", "r0")
    assert running.serving.sampler is None
    assert (await running.control_client.put("/sampling", json={"share": 1})).status_code == 204
    await call(running, "while", "r1")
    kept = await answers(running)
    assert [(a.request_id, a.endpoint, a.status, a.head, a.whole) for a in kept.answers] == [
        ("r1", "score", 200, '{"text":"while"}', True)
    ]
    await running.control_client.put("/sampling", json={"share": 0})
    await call(running, "after", "r2")
    assert (await answers(running)).answers == ()


async def test_answers_of_every_way_in_are_kept_and_failures_too(serve: Serve) -> None:
    running = await serve(Scorer)
    await running.control_client.put("/sampling", json={"share": 1})
    await call(running, "bad", "r1")
    await running.client.get("/of/me", headers={"x-request-id": "r2"})
    assert [(a.request_id, a.status) for a in (await answers(running)).answers] == [("r1", 500), ("r2", 200)]
    assert (await running.client.get("/answers")).status_code == 404  # callers do not reach them


@pytest.mark.parametrize("body", [b"{}", b'{"share": 2}', b'{"share": -1}', b"x", b'{"share": 1, "for_s": 1e9}'])
async def test_a_sampling_that_makes_no_sense_is_refused(serve: Serve, body: bytes) -> None:
    running = await serve(Scorer)
    assert (await running.control_client.put("/sampling", content=body)).status_code == 400
    assert running.serving.sampler is None


async def test_it_ends_by_itself(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    running = await serve(Scorer)
    await running.control_client.put("/sampling", json={"share": 1, "for_s": 0.001})
    await call(running, "late", "r1")
    await call(running, "late", "r2")
    assert running.serving.sampler is None


def test_both_sides_keep_the_same_calls_about_as_many_as_the_share_says() -> None:
    one, two = Sampler(Sampling(share=0.25)), Sampler(Sampling(share=0.25))
    for number in range(1600):
        for sampler in (one, two):
            sampler.add(f"request-{number}", "score", 200, "application/json", b"{}")
    ids = [[a.request_id for a in sampler.after(0).answers] for sampler in (one, two)]
    assert ids[0] == ids[1]
    assert 300 < len(ids[0]) < 500


def test_what_is_kept_is_bounded_and_read_in_parts() -> None:
    sampler = Sampler(Sampling(share=1))
    for number in range(1000):
        sampler.add(f"r{number}", "score", 200, "application/json", b'"' + b"x" * 9000 + b'"')
    first = sampler.after(0)
    oldest = int(first.answers[0].request_id[1:])
    assert 0 < (1000 - oldest) * HEAD_BYTES <= KEPT_BYTES
    assert {(len(a.head), a.whole) for a in first.answers} == {(HEAD_BYTES, False)}
    assert len(first.model_dump_json()) < 2**20
    rest, seen = first, len(first.answers)
    while rest.until < first.sampled:
        rest = sampler.after(rest.until)
        seen += len(rest.answers)
    assert seen == 1000 - oldest
    assert sampler.after(first.sampled).answers == ()
    assert sampler.after(10**6).answers  # of a replica that was there before this one


def test_of_what_is_not_json_only_the_digest_is_kept() -> None:
    sampler = Sampler(Sampling(share=1))
    sampler.add("r", "image", 200, "image/png", b"\x89PNG")
    (kept,) = sampler.after(0).answers
    assert (kept.head, kept.whole, len(kept.digest)) == ("", False, 64)


def test_bodies_are_not_kept_however_large_and_many() -> None:
    tracemalloc.start()
    try:
        sampler = Sampler(Sampling(share=1))
        for number in range(300):
            sampler.add(f"r{number}", "image", 200, "image/png", bytes(2**20))
            sampler.add(f"s{number}", "score", 200, "application/json", bytes(2**20))
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 3 * KEPT_BYTES


async def test_answers_are_forgotten_where_no_call_comes_in(serve: Serve, eventually: Any) -> None:
    running = await serve(Scorer)
    await running.control_client.put("/sampling", json={"share": 1, "for_s": 0.05})
    await call(running, "kept", "r1")
    await eventually(lambda: running.serving.sampler is None)
