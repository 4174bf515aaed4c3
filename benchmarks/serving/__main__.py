"""Measure, print, keep. `python -m benchmarks.serving`; QUICK=1 for a run of under a minute."""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

from benchmarks import peers
from benchmarks.report import QUICK, Report, median, ratio_of_rounds
from benchmarks.serving import envoy
from benchmarks.serving.load import Run, Server, free_port, kaon_replica, require_wrk, wrk

APPS = Path(__file__).parent / "apps"
ROUNDS, SECONDS = (2, 2) if QUICK else (5, 3)
PEER_ROUNDS = 1 if QUICK else 3
TOKENS = 200
GOALS = {"raw_asgi": 1.5, "fastapi": 6.0, "bentoml": 30.0, "litserve": 30.0, "ray": 8.0}


def main() -> None:
    """The whole benchmark."""
    require_wrk()
    report = Report("serving", {name: version(name) for name in ("uvicorn", "uvloop", "httptools", "pydantic")})
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kaon-bench-")))
        ours = _kaon(stack, folder / "tcp", None)
        raw_port = free_port()
        url = f"http://127.0.0.1:{raw_port}"
        raw = stack.enter_context(Server([sys.executable, APPS / "raw_asgi.py", str(raw_port)], f"{url}/noop"))
        _ready(ours, raw)
        _calls(report, ours, raw)
        _streams(report, ours, raw)
        for name in ("fastapi", "litserve", "bentoml", "ray"):
            _against(report, name, ours)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kaon-bench-")))
        _through_the_edge(report, stack, folder)
    report.finish()


def _kaon(stack: ExitStack, folder: Path, socket: Path | None) -> Server:
    folder.mkdir(parents=True)
    port = free_port()
    address = f"unix:{socket}" if socket else f"127.0.0.1:{port}"
    url = f"http://127.0.0.1:{port}/noop"
    return kaon_replica(stack, folder, address, entry="kaon_noop:Noop", code_dir=APPS, url=url)


def _ready(*servers: Server) -> None:
    for server in servers:
        if not server.wait():
            raise SystemExit(f"{server.url} did not come up:\n{server.said()}")


def _rounds(targets: dict[str, str], rounds: int, *, post: bool = True) -> dict[str, list[Run]]:
    """Each target once a round, so that what disturbs the machine disturbs all."""
    runs: dict[str, list[Run]] = defaultdict(list)
    for url in targets.values():
        _one(url, 1, post)  # warm
    for number in range(rounds):
        for name, url in targets.items():
            run = _one(url, SECONDS, post)
            runs[name].append(run)
            print(
                f"round {number + 1} {name:12} {run.per_s:9.0f}/s  p50 {run.p50_ms} ms  p99 {run.p99_ms} ms", flush=True
            )
            if run.failed:
                raise SystemExit(f"{name}: {run.failed} requests failed")
    return runs


def _one(url: str, seconds: int, post: bool) -> Run:
    return wrk(url, seconds) if post else wrk(url, seconds, post=None)


def _keep(report: Report, name: str, runs: list[Run]) -> None:
    report.figures[name] = {
        "requests_per_s": round(median(run.per_s for run in runs)),
        "p50_ms": median(run.p50_ms for run in runs),
        "p99_ms": median(run.p99_ms for run in runs),
        "rounds": [round(run.per_s) for run in runs],
    }


def _calls(report: Report, ours: Server, raw: Server) -> None:
    runs = _rounds({"kaon": ours.url, "raw_asgi": raw.url}, ROUNDS)
    for name, seen in runs.items():
        _keep(report, name, seen)
    report.at_least("serving_vs_raw_asgi", _ratio(runs, "kaon", "raw_asgi"), GOALS["raw_asgi"])


def _ratio(runs: dict[str, list[Run]], ours: str, theirs: str) -> float:
    return ratio_of_rounds([run.per_s for run in runs[ours]], [run.per_s for run in runs[theirs]])


def _streams(report: Report, ours: Server, raw: Server) -> None:
    for kind in ("burst", "paced"):
        targets = {
            name: server.url.replace("/noop", f"/{kind}") for name, server in (("kaon", ours), ("raw_asgi", raw))
        }
        runs = _rounds(targets, PEER_ROUNDS, post=False)
        for name, seen in runs.items():
            report.figures[f"{name}_{kind}_tokens_per_s"] = round(TOKENS * median(run.per_s for run in seen))
        report.at_least(f"sse_{kind}_tokens_vs_raw_asgi", _ratio(runs, "kaon", "raw_asgi"), 1.0)


def _against(report: Report, name: str, ours: Server) -> None:
    """One peer at a time, so that none takes the other's memory."""
    python = peers.python_of(name)
    if python is None or (QUICK and name != "fastapi"):
        report.note(f"{name} was left out of this run")
        return
    port = free_port()
    with ExitStack() as stack:
        peer = stack.enter_context(_peer(name, python, port))
        if not peer.wait():
            report.note(f"{name} did not come up: {peer.said()[-300:]}")
            return
        runs = _rounds({"kaon": ours.url, name: peer.url}, PEER_ROUNDS)
        _keep(report, name, runs[name])
        report.figures[name]["versions"] = peers.versions(name)
        report.at_least(f"serving_vs_{name}", _ratio(runs, "kaon", name), GOALS[name])


def _peer(name: str, python: Path, port: int) -> Server:
    url = f"http://127.0.0.1:{port}/noop"
    file = APPS / f"{name}_noop.py"
    if name == "bentoml":
        command = [python, "-m", "bentoml", "serve", "bentoml_noop:Noop", "--port", str(port), "--host", "127.0.0.1"]
        return Server([*command, "--api-workers", "1"], url, cwd=APPS, env={"BENTOML_DO_NOT_TRACK": "True"})
    if name == "ray":  # its proxy and replica are processes of their own: it gets both cores
        quiet = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
        path = {"PATH": f"{python.parent}:/usr/bin:/bin"}
        return Server([python, file, str(port)], url, cores="0,1", env={**quiet, **path})
    return Server([python, file, str(port)], url)


def _through_the_edge(report: Report, stack: ExitStack, folder: Path) -> None:
    binary = envoy.binary()
    if binary is None:
        report.note("no Envoy here: the edge was not measured")
        return
    sockets = {"kaon": folder / "kaon.sock", "raw_asgi": folder / "raw.sock"}
    _kaon(stack, folder / "kaon", sockets["kaon"])
    stack.enter_context(Server([sys.executable, APPS / "raw_asgi.py", str(sockets["raw_asgi"])], ""))
    targets = {}
    for name, socket in sockets.items():
        port = free_port()
        command = envoy.command(binary, folder / f"envoy-{name}", port, str(socket))
        server = stack.enter_context(Server(command, f"http://127.0.0.1:{port}/noop"))
        _ready(server)
        targets[name] = server.url
    runs = _rounds(targets, PEER_ROUNDS)
    for name, seen in runs.items():
        _keep(report, f"{name}_through_envoy", seen)
    report.at_least("edge_vs_raw_asgi_behind_envoy", _ratio(runs, "kaon", "raw_asgi"), 0.85)


if __name__ == "__main__":
    main()
