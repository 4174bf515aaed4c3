"""The tables of docs/explanation/scaling.md from the last run's JSON: `python -m benchmarks.autoscale.tables`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.autoscale.__main__ import OURS, rival, strictly
from benchmarks.report import RESULTS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "scaling.md"
BEGIN, END = "<!-- figures: begin, by benchmarks.autoscale.tables -->", "<!-- figures: end -->"


def cell(result: dict[str, Any], arm: str) -> str:
    """In time, and mean replicas."""
    row = result["arms"][arm]
    return f"{100 * row['attainment'][0]:.2f} %, {row['replica_seconds'][0] / result['scored_s']:.1f}"


def table(loads: dict[str, dict[str, Any]]) -> str:
    """A row for each trace, lost ones included."""
    lines = [
        "| trace | Kaon: in time, mean replicas | best law at its defaults | best tuned law | lost |",
        "|---|--:|--:|--:|---|",
    ]
    for name, result in loads.items():
        cells, lost = [cell(result, "kaon")], []
        for kind in ("default", "tuned"):
            other, _, won = rival(result, kind)
            cells.append(f"{other.removesuffix(f' {kind}')}: {cell(result, other)}")
            strict = strictly(result, kind, OURS[:1])
            lost += [kind] if not won else [] if strict else [f"{kind}, strictly"]
        lines.append(f"| {name} | {' | '.join(cells)} | {'; '.join(lost)} |")
    ratios = [
        r["at_equal_attainment"]["kaon"] / r["at_equal_attainment"]["best_peer_in_hindsight"] for r in loads.values()
    ]
    lines += [
        "",
        "At equal attainment, against the best of all those configurations chosen in hindsight, Kaon pays "
        + ", ".join(f"{ratio:.2f}" for ratio in ratios)
        + " times as much, trace by trace in this order.",
    ]
    return "\n".join(lines)


def main() -> None:
    loads = json.loads((RESULTS / "autoscale.json").read_text())["figures"]["loads"]
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n\n{table(loads)}\n\n{END}{after}", encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
