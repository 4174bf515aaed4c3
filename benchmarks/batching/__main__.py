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
from benchmarks.serving.load import SERVER_CORE, Arm, Server, free_port, kaon_replica, require_wrk, wrk

APPS = Path(__file__).parent / "apps"
ROUNDS, SECONDS = (2, 2) if QUICK else (5, 3)
TEXTS = [
    "where is my parcel",
    "the card was declined at the till although there is money in the account and it worked this morning",
    "please cancel the order that was placed yesterday",
]
PEERS = ("litserve", "bentoml")
PEER_SECONDS = 4
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
        for name in PEERS:
            _against(report, name)
    report.finish()


def _device(report: Report) -> None:
    with ExitStack() as stack:
        url = _kaon(stack, "Device", "/batched").url
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
    """Bare model and served model in turn, in short rounds, both on one core, one text a call."""
    bare, served = [], []
    with ExitStack() as stack:
        ours = _kaon(stack, "Embedder", "/embed")
        ours.load(1, post=BODY)  # warm
        for _ in range(1 if QUICK else 5):
            bare.append(_bare())
            served.append(ours.load(PEER_SECONDS, post=BODY))
    report.figures["minilm"] = {
        "bare_per_s": [round(per_s, 1) for per_s in bare],
        "served_per_s": [run.per_s for run in served],
        "served_cpu_us": [run.cpu_us for run in served],
        "served_share": [run.share for run in served],
        "versions": peers.versions("minilm"),
    }
    report.at_least("minilm_vs_bare", median(s.per_s / b for s, b in zip(served, bare, strict=True)), 0.95)
    report.at_most("minilm_refused", sum(run.failed for run in served), 0)


def _against(report: Report, name: str) -> None:
    """The same model and the same device behind a peer, in turn with Kaon, each on the same core."""
    python = peers.python_of(name)
    if python is None or QUICK:
        report.note(f"{name} was left out of this run")
        return
    report.figures[name] = {"versions": peers.versions(name)}
    for entry, path, what in (("Embedder", "/embed", "minilm"), ("Device", "/batched", "device")):
        with ExitStack() as stack:
            server = stack.enter_context(_peer(name, python, path))
            if not server.wait(body=BODY):
                report.note(f"{name} did not come up: {server.said()[-300:]}")
                return
            theirs, ours = Arm(server.url, (server,)), _kaon(stack, entry, path)
            for arm in (theirs, ours):
                arm.load(1, post=BODY)  # warm
            rounds = [(ours.load(PEER_SECONDS, post=BODY), theirs.load(PEER_SECONDS, post=BODY)) for _ in range(2)]
        report.figures[name][what] = {
            "per_s": [run.per_s for _, run in rounds],
            "kaon_per_s": [run.per_s for run, _ in rounds],
            "refused": [run.failed for _, run in rounds],
        }
        report.at_least(f"{what}_vs_{name}", median(a.per_s / b.per_s for a, b in rounds), 1.0)


def _peer(name: str, python: Path, path: str) -> Server:
    port = free_port()
    url = f"http://127.0.0.1:{port}{path}"
    if name == "bentoml":
        command = [python, "-m", "bentoml", "serve", "bentoml_batched:Batched", "--port", str(port)]
        options = ["--host", "127.0.0.1", "--api-workers", "1"]
        return Server([*command, *options], url, cwd=APPS, env={"BENTOML_DO_NOT_TRACK": "True"})
    return Server([python, APPS / f"{name}_batched.py", str(port), path], url)


def _bare() -> float:
    command = ["taskset", "-c", SERVER_CORE, sys.executable, APPS / "bare.py", "1", *TEXTS[:1]]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _kaon(stack: ExitStack, name: str, path: str) -> Arm:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kaon-bench-")))
    port = free_port()
    url = f"http://127.0.0.1:{port}{path}"
    address = f"127.0.0.1:{port}"
    server = kaon_replica(stack, folder, address, entry=f"kaon_batched:{name}", code_dir=APPS, url=url)
    if not server.wait(body=BODY):
        raise SystemExit(f"{name} did not come up:\n{server.said()}")
    return Arm(url, (server,))


if __name__ == "__main__":
    main()
