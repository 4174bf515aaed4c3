"""Writes the figures of benchmarks/live/README.md from the last whole run: `python -m benchmarks.live.pages`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import RESULTS
from kaon.sim.picture import BLUE, GREY, ORANGE, picture

FOLDER = Path(__file__).parent
PAGE = FOLDER / "README.md"
BEGIN, END = "<!-- figures of benchmarks/results/live.json -->\n", "<!-- end of figures -->\n"
NAMES = {
    "kaon": "Kaon",
    "knative": "Knative's law",
    "ray-serve": "Ray Serve's law",
    "fixed": "8 replicas, fixed",
    "ray-serve-itself": "Ray Serve itself",
    "ray-serve-itself-tuned": "Ray Serve itself, tuned",
}
COLOURS = {"kaon": BLUE, "knative": ORANGE, "ray-serve": "#6a8f3c"}


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    lines = [" | ".join(head), " | ".join(["---", *(["--:"] * (len(head) - 1))]), *(" | ".join(row) for row in rows)]
    return "".join(f"| {line} |\n" for line in lines)


def of_load(name: str, arms: dict[str, Any]) -> str:
    """One load: who answered how many in time, with how many replicas."""
    rows = [
        (
            NAMES[arm],
            f"{100 * x['attainment']:.2f} %",
            f"{x['mean_replicas']:.2f}",
            f"{1000 * x['p50_s']:.0f}",
            f"{1000 * x['p99_s']:.0f}",
            str(x["lost"]),
            str(x["shed"]),
        )
        for arm, x in arms.items()
    ]
    head = ("law", "in time", "mean replicas", "p50 ms", "p99 ms", "lost", "shed")
    return f"### {name}\n\n{table(head, rows)}\n![Replicas on {name}]({name}.svg)\n"


def of_simulator(figures: dict[str, Any]) -> str:
    """The simulator beside the live runs."""
    results = {(load, NAMES[arm]): x for load, arms in figures["simulated"].items() for arm, x in arms.items()}
    rows = []
    for (load, arm), x in results.items():
        pairs = [(x["live"][key], x["simulated"][key]) for key in ("p50_s", "p90_s", "p99_s")]
        attained, simulated = (100 * x[side]["attainment"] for side in ("live", "simulated"))
        rows.append(
            (
                f"{load}, {arm}",
                *(f"{1000 * live:.0f} / {1000 * other:.0f}" for live, other in pairs),
                f"{attained:.1f} / {simulated:.1f}",
                f"{x['replica_seconds_ratio']:.2f}",
            )
        )
    return table(("run: live / simulated", "p50 ms", "p90 ms", "p99 ms", "in time %", "replica-seconds, ratio"), rows)


def draw(name: str, arms: dict[str, Any], setting: dict[str, Any]) -> None:
    """How many replicas each law had over a run, above what full batches would have needed."""
    warm_s, serves_rps = int(setting["scored_from_s"]), setting["replica_serves_rps"]
    calls = [second["calls"] / serves_rps for second in arms["kaon"]["load"]["per_second"][warm_s:]]
    series: dict[str, Any] = {"needed at full batches": (calls, GREY)}
    for arm, colour in COLOURS.items():
        if arm in arms:
            x = arms[arm]
            series[f"{NAMES[arm]}: {100 * x['attainment']:.1f} %"] = (x["replicas"][warm_s:], colour)
    (FOLDER / f"{name}.svg").write_text(picture(name, series, setting["seconds"] - warm_s))


def main() -> None:
    figures = json.loads((RESULTS / "live.json").read_text())["figures"]
    parts = [of_load(name, arms) for name, arms in figures["loads"].items()]
    for name, arms in figures["loads"].items():
        draw(name, arms, figures["setting"])
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    body = "\n".join([*parts, "### The simulator beside it\n", of_simulator(figures)])
    PAGE.write_text(f"{before}{BEGIN}\n{body}\n{END}{after}")


if __name__ == "__main__":
    main()
