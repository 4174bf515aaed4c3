"""Measure, print, keep. `python -m benchmarks.batching`; QUICK=1 for a run of under a minute."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

from benchmarks import peers
from benchmarks.report import QUICK, Report, median
from benchmarks.serving.load import SERVER_CORE, free_port, kaon_replica, require_wrk, wrk

APPS = Path(__file__).parent / "apps"
ROUNDS, SECONDS = (2, 2) if QUICK else (5, 4)
TEXTS = [
    "where is my parcel",
    "the card was declined at the till although there is money in the account and it worked this morning",
    "please cancel the order that was placed yesterday",
]
BODY = json.dumps({"texts": TEXTS[:1]}).encode()


def main() -> None:
    """The whole benchmark."""
    require_wrk()
    report = Report("batching", {name: version(name) for name in ("uvicorn", "uvloop", "pydantic")})
    _device(report)
    if peers.python_of("minilm") is None:
        report.note("minilm was left out of this run: its environment is not installed")
    else:
        _model(report)
    report.note("no peer was run: the bar 'above every peer' is not measured here yet")
    report.finish()


def _device(report: Report) -> None:
    with ExitStack() as stack:
        url = _kaon(stack, "Device", "/batched")
        plain = url.replace("/batched", "/plain")
        many = [wrk(url, SECONDS, post=BODY) for _ in range(ROUNDS)]
        alone, unbatched = [], []
        for _ in range(ROUNDS):
            alone.append(wrk(url, SECONDS, connections=1, post=BODY).p50_ms)
            unbatched.append(wrk(plain, SECONDS, connections=1, post=BODY).p50_ms)
    report.figures["device"] = {
        "per_s": [round(run.per_s) for run in many],
        "p50_ms": [run.p50_ms for run in many],
        "failed": sum(run.failed for run in many),
        "alone_p50_ms": alone,
        "unbatched_p50_ms": unbatched,
    }
    report.at_least("device_calls_per_s", median(run.per_s for run in many), 6400)
    report.at_most("device_alone_ms", median(alone), 4.6)
    report.at_most(
        "lone_batched_beyond_unbatched_ms", median(a - b for a, b in zip(alone, unbatched, strict=True)), 1.0
    )
    report.at_most("refused_below_the_bound", sum(run.failed for run in many), 0)


def _model(report: Report) -> None:
    """Bare model and served model in turn, both on one core, one text a call."""
    bare, served = [], []
    for _ in range(1 if QUICK else 3):
        bare.append(_bare())
        with ExitStack() as stack:
            served.append(wrk(_kaon(stack, "Embedder", "/embed"), 6 if QUICK else 15, post=BODY).per_s)
    report.figures["minilm"] = {"bare_per_s": bare, "served_per_s": served, "versions": peers.versions("minilm")}
    report.at_least("minilm_vs_bare", median(s / b for s, b in zip(served, bare, strict=True)), 0.95)


def _bare() -> float:
    command = ["taskset", "-c", SERVER_CORE, sys.executable, APPS / "bare.py", "1" if QUICK else "3", *TEXTS[:1]]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _kaon(stack: ExitStack, name: str, path: str) -> str:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kaon-bench-")))
    port = free_port()
    url = f"http://127.0.0.1:{port}{path}"
    address = f"127.0.0.1:{port}"
    server = kaon_replica(stack, folder, address, entry=f"kaon_batched:{name}", code_dir=APPS, url=url)
    if not server.wait(body=BODY):
        raise SystemExit(f"{name} did not come up:\n{server.said()}")
    return url


if __name__ == "__main__":
    main()
