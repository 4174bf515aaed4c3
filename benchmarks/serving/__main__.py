"""Measure, print, keep. `python -m benchmarks.serving`; QUICK=1 for a run of under a minute."""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks import peers
from benchmarks.report import QUICK, Report, median, ratio_of_rounds
from benchmarks.serving import envoy
from benchmarks.serving.load import BODY, Arm, Run, Server, free_port, kaon_replica, require_wrk

APPS = Path(__file__).parent / "apps"
ROUNDS, SECONDS = (2, 2) if QUICK else (8, 2)
PEER_ROUNDS = 1 if QUICK else 4
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


def _rounds(arms: dict[str, Arm], rounds: int, *, post: bytes | None = BODY) -> Rounds:
    """Each arm once a round, so that what disturbs the machine disturbs all; disturbed rounds are run again."""
    for arm in arms.values():
        arm.load(1, post=post)  # warm
    quiet: list[dict[str, Run]] = []
    disturbed: list[dict[str, Run]] = []
    while len(quiet) < rounds and len(quiet) + len(disturbed) < 2 * rounds:
        runs = {name: arm.load(SECONDS, post=post) for name, arm in arms.items()}
        wrong = [name for name, run in runs.items() if arms[name].disturbed(run)]
        (disturbed if wrong else quiet).append(runs)
        for name, run in runs.items():
            said = f"p50 {run.p50_ms} ms  p99 {run.p99_ms} ms  cpu {run.cpu_us} us  share {run.share:.2f}"
            print(f"{name:14} {run.per_s:9.0f}/s  {said}{'  disturbed' if name in wrong else ''}", flush=True)
            if run.failed:
                raise SystemExit(f"{name}: {run.failed} requests failed")
    disturbed.sort(key=lambda runs: min(run.share for run in runs.values()), reverse=True)
    kept = quiet + disturbed[: rounds - len(quiet)]
    return Rounds({name: [runs[name] for runs in kept] for name in arms}, rounds - len(quiet), len(disturbed))


@dataclass(frozen=True)
class Rounds:
    """The runs that count, by arm, round by round."""

    runs: dict[str, list[Run]]
    disturbed_kept: int
    """Rounds that count although disturbed, as no better ones were to be had."""
    disturbed: int

    def keep(self, report: Report, name: str, key: str = "") -> None:
        """Write an arm's figures into the report."""
        runs = self.runs[name]
        report.figures[key or name] = {
            "requests_per_s": round(median(run.per_s for run in runs)),
            "cpu_us": median(run.cpu_us for run in runs),
            "p50_ms": median(run.p50_ms for run in runs),
            "p99_ms": median(run.p99_ms for run in runs),
            "rounds": [{"per_s": round(run.per_s), "cpu_us": run.cpu_us, "share": run.share} for run in runs],
        }

    def bar(self, report: Report, name: str, theirs: str, goal: float) -> None:
        """The bar is the median of the rounds' ratios of throughput; that of processor time is kept beside it."""
        ours, others = self.runs["kaon"], self.runs[theirs]
        ratio = ratio_of_rounds([run.per_s for run in ours], [run.per_s for run in others])
        report.at_least(name, ratio, goal)
        report.figures.setdefault("ratios", {})[name] = {
            "throughput": round(ratio, 3),
            "cpu": round(ratio_of_rounds([run.cpu_us for run in others], [run.cpu_us for run in ours]), 3),
            "disturbed_rounds": self.disturbed,
            "disturbed_rounds_that_count": self.disturbed_kept,
        }


def _calls(report: Report, ours: Server, raw: Server) -> None:
    rounds = _rounds({"kaon": Arm(ours.url, (ours,)), "raw_asgi": Arm(raw.url, (raw,))}, ROUNDS)
    for name in rounds.runs:
        rounds.keep(report, name)
    rounds.bar(report, "serving_vs_raw_asgi", "raw_asgi", GOALS["raw_asgi"])


def _streams(report: Report, ours: Server, raw: Server) -> None:
    for kind in ("burst", "paced"):
        arms = {
            name: Arm(server.url.replace("/noop", f"/{kind}"), (server,))
            for name, server in (("kaon", ours), ("raw_asgi", raw))
        }
        rounds = _rounds(arms, PEER_ROUNDS, post=None)
        for name, seen in rounds.runs.items():
            report.figures[f"{name}_{kind}_tokens_per_s"] = round(TOKENS * median(run.per_s for run in seen))
        rounds.bar(report, f"sse_{kind}_tokens_vs_raw_asgi", "raw_asgi", 1.0)


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
        ray = name == "ray"  # its processes and wrk share both cores
        theirs = Arm(peer.url, (peer,), cores=2 if ray else 1, saturates=name == "fastapi")
        rounds = _rounds({"kaon": Arm(ours.url, (ours,)), name: theirs}, PEER_ROUNDS)
        rounds.keep(report, name)
        report.figures[name]["versions"] = peers.versions(name)
        rounds.bar(report, f"serving_vs_{name}", name, GOALS[name])


def _peer(name: str, python: Path, port: int) -> Server:
    url = f"http://127.0.0.1:{port}/noop"
    file = APPS / f"{name}_noop.py"
    if name == "bentoml":
        command = [python, "-m", "bentoml", "serve", "bentoml_noop:Noop", "--port", str(port), "--host", "127.0.0.1"]
        return Server([*command, "--api-workers", "1"], url, cwd=APPS, env={"BENTOML_DO_NOT_TRACK": "True"})
    if name == "ray":
        return _ray(python, port, url)
    return Server([python, file, str(port)], url)


def _ray(python: Path, port: int, url: str) -> Server:
    """Ray's fast mode: the replica itself listens, at the first port of a range; a proxy runs beside it, unused.

    It has many processes, so it gets both cores.
    """
    settings = {
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(port),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(port + 1),
        "RAY_SERVE_DEFAULT_HTTP_HOST": "127.0.0.1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
        "PATH": f"{python.parent}:/usr/bin:/bin",
    }
    return Server([python, APPS / "ray_noop.py", str(free_port())], url, cores="0,1", env=settings)


def _through_the_edge(report: Report, stack: ExitStack, folder: Path) -> None:
    binary = envoy.binary()
    if binary is None:
        report.note("no Envoy here: the edge was not measured")
        return
    sockets = {"kaon": folder / "kaon.sock", "raw_asgi": folder / "raw.sock"}
    behind = {
        "kaon": _kaon(stack, folder / "kaon", sockets["kaon"]),
        "raw_asgi": stack.enter_context(Server([sys.executable, APPS / "raw_asgi.py", str(sockets["raw_asgi"])], "")),
    }
    arms = {}
    for name, socket in sockets.items():
        port = free_port()
        command = envoy.command(binary, folder / f"envoy-{name}", port, str(socket))
        server = stack.enter_context(Server(command, f"http://127.0.0.1:{port}/noop"))
        _ready(server)
        arms[name] = Arm(server.url, (server, behind[name]))
    rounds = _rounds(arms, PEER_ROUNDS)
    for name in rounds.runs:
        rounds.keep(report, name, f"{name}_through_envoy")
    rounds.bar(report, "edge_vs_raw_asgi_behind_envoy", "raw_asgi", 0.85)


if __name__ == "__main__":
    main()
