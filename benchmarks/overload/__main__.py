"""Three times more than can be served, from callers who come again at once: `python -m benchmarks.overload`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.overload.storm import Callers, Tally, back_to_normal, peak, storm
from benchmarks.report import QUICK, Report
from kaon.settings import Settings
from kaon.stack import up as stack

APP = Path(__file__).parent / "apps" / "scarce.py"
KAON = Path(sys.executable).with_name("kaon")
REPLICAS = 2
PEAK_S, STORM_S, PRIORITIES_S = (2.0, 10.0, 5.0) if QUICK else (10.0, 60.0, 30.0)
OVERLOAD = 3.0
BODIES: dict[str, Any] = {"plain": {"text": "a"}, "batched": {"texts": ["a"]}}
CLIENTS = {"plain": 12 * REPLICAS, "batched": 24 * REPLICAS}
NORMAL_WITHIN_S = 30.0


class Platform:
    """The processes of `kaon up`, in a temporary home, on a free port."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def kaon(self, *arguments: str) -> str:
        """Run the command line; what it printed."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("KAON_")}
        env = clean | {"KAON_HOME": str(self.settings.home), "KAON_PORT": str(self.settings.port)}
        done = subprocess.run(
            [str(KAON), *arguments], env=env, cwd=self.settings.home.parent, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"kaon {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout.strip()

    def key(self, name: str, priority: str = "normal") -> str:
        """A new key."""
        return self.kaon("key", "create", name, "--priority", priority)

    def callers(self, name: str, endpoint: str, key: str, **fields: Any) -> Callers:
        """Callers of an endpoint, through the edge."""
        return Callers(name, f"{self.settings.url}/scarce/{endpoint}", key, BODIES[endpoint], **fields)


@contextlib.contextmanager
def platform() -> Iterator[Platform]:
    """A platform on which the scarce service runs, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="kaon-overload-") as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        settings = Settings(home=Path(folder) / "home", port=probe.getsockname()[1])
        probe.close()
        try:
            stack.up(settings)
            it = Platform(settings)
            it.kaon("deploy", f"{shutil.copy(APP, folder)}:Scarce", "--replicas", str(REPLICAS))
            yield it
        finally:
            stack.down(settings)


async def overloaded(report: Report, it: Platform, endpoint: str, keys: Sequence[str]) -> None:
    """One endpoint: its peak, the storm, and how soon it is itself again."""
    calm = it.callers("calm", endpoint, keys[0])
    best = await peak(calm, CLIENTS[endpoint], PEAK_S)
    whole, took_s = await _storm(it, endpoint, keys, OVERLOAD * best, say_so=True)
    normal_s = await back_to_normal(calm, NORMAL_WITHIN_S)
    report.figures[endpoint] = {"peak_rps": round(best, 1), **_rates(whole, took_s), **told(whole)}
    print(endpoint, report.figures[endpoint], flush=True)
    report.at_least(f"{endpoint}_goodput_share_of_peak", len(whole.good) / took_s / best, 0.8)
    report.at_most(f"{endpoint}_refusal_p99_s", quantile(whole.refused_after, 0.99), 0.05)
    report.at_most(f"{endpoint}_refusals_without_retry_after", whole.without_retry_after, 0)
    report.at_most(f"{endpoint}_neither_answer_nor_refusal_share", strange(whole) / whole.calls, 0.02)
    report.at_most(f"{endpoint}_back_to_normal_s", normal_s, 10)


async def silent(report: Report, it: Platform, endpoint: str, keys: Sequence[str]) -> None:
    """The same with callers who hang up after two seconds without sending a deadline; the endpoint has sixty."""
    best = report.figures[endpoint]["peak_rps"]
    whole, took_s = await _storm(it, endpoint, keys, OVERLOAD * best, say_so=False)
    await back_to_normal(it.callers("calm", endpoint, keys[0]), NORMAL_WITHIN_S)
    report.figures[f"{endpoint}_silent"] = _rates(whole, took_s) | told(whole)
    print(endpoint, "silent", report.figures[f"{endpoint}_silent"], flush=True)
    report.at_least(f"{endpoint}_goodput_share_with_silent_callers", len(whole.good) / took_s / best, 0.8)


async def _storm(it: Platform, endpoint: str, keys: Sequence[str], rps: float, *, say_so: bool) -> tuple[Tally, float]:
    """A storm of callers with several keys; what became of all, and how long it took."""
    groups = [it.callers(key, endpoint, key, rps=rps / len(keys), say_so=say_so) for key in keys]
    began_at, whole = time.monotonic(), Tally()
    for tally in (await storm(groups, STORM_S)).values():
        whole.add(tally)
    return whole, time.monotonic() - began_at


def _rates(whole: Tally, took_s: float) -> dict[str, Any]:
    return {
        "offered_rps": round(whole.calls / STORM_S, 1),
        "tries_per_s": round(whole.tries / STORM_S, 1),
        "goodput_rps": round(len(whole.good) / took_s, 1),
    }


async def by_priority(report: Report, it: Platform, endpoint: str) -> None:
    """High and normal keys ask for seven tenths of what can be served, low ones for more than twice as much."""
    keys = {name: it.key(f"{endpoint}-{name}", name) for name in ("high", "normal", "low")}
    best = report.figures[endpoint]["peak_rps"]
    shares = {"high": 0.4, "normal": 0.3, "low": 2.3}
    groups = [it.callers(name, endpoint, key, rps=shares[name] * best) for name, key in keys.items()]
    tallies = await storm(groups, PRIORITIES_S)
    report.figures[f"{endpoint}_by_priority"] = {name: told(tally) for name, tally in tallies.items()}
    print(endpoint, report.figures[f"{endpoint}_by_priority"], flush=True)
    report.at_least(f"{endpoint}_high_keys_answered", tallies["high"].good_share, 0.99)
    report.at_most(f"{endpoint}_low_keys_answered", tallies["low"].good_share, tallies["normal"].good_share)


def told(tally: Tally) -> dict[str, Any]:
    """A tally as figures."""
    return {
        "calls": tally.calls,
        "good_share": round(tally.good_share, 4),
        "good_p50_s": round(quantile(tally.good, 0.5), 4),
        "good_p99_s": round(quantile(tally.good, 0.99), 4),
        "refused": len(tally.refused_after),
        "refused_p50_s": round(quantile(tally.refused_after, 0.5), 4),
        "refused_p99_s": round(quantile(tally.refused_after, 0.99), 4),
        "statuses": {str(status): count for status, count in sorted(tally.statuses.items())},
        "hung_up": tally.hung_up,
        "broken": tally.broken,
    }


def strange(tally: Tally) -> int:
    """Tries that were neither answered nor refused: other statuses, silence, a broken connection."""
    others = sum(count for status, count in tally.statuses.items() if status not in (200, 429, 503))
    return others + tally.hung_up + tally.broken


def quantile(values: list[float], q: float) -> float:
    """The q-quantile; 0 of nothing."""
    return sorted(values)[min(int(q * len(values)), len(values) - 1)] if values else 0.0


async def run(report: Report, it: Platform) -> None:
    """All of it."""
    keys = [it.key("one"), it.key("two")]
    for endpoint in BODIES:
        await overloaded(report, it, endpoint, keys)
        await by_priority(report, it, endpoint)
    await silent(report, it, "plain", keys)


def main() -> None:
    """The whole benchmark."""
    report = Report("overload")
    with platform() as it:
        asyncio.run(run(report, it))
    report.finish()


if __name__ == "__main__":
    main()
