"""The pictures of docs/explanation/scaling.md: `python -m benchmarks.autoscale.pictures`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.autoscale.arms import OBJECTIVE, SERVES_RPS, TRUTH, ours
from benchmarks.autoscale.loads import Load, generated
from kaon.laws.scaling import Bounds
from kaon.laws.scaling_peers import Knative
from kaon.sim.run import Setting, run
from kaon.sim.traffic import arrivals

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "explanation"
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 760, 260, 46, 34, 34
SHOWN = {"day": "a day in half an hour", "bursts": "bursts shorter than a start"}


def line(values: Sequence[float], most: float, colour: str, width: float = 1.5) -> str:
    """A polyline over the whole width of the plot."""
    step = (WIDTH - LEFT - 10) / max(1, len(values) - 1)
    room = HEIGHT - TOP - BOTTOM
    points = " ".join(
        f"{LEFT + i * step:.1f},{HEIGHT - BOTTOM - min(v, most) / most * room:.1f}" for i, v in enumerate(values)
    )
    return f'<polyline fill="none" stroke="{colour}" stroke-width="{width}" points="{points}"/>'


def picture(title: str, series: dict[str, tuple[Sequence[float], str]], seconds: float) -> str:
    """A small chart: replicas over time."""
    most = 1.1 * max(max(values) for values, _ in series.values())
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12" role="img" aria-label="{title}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
    ]
    for i in range(5):
        y = HEIGHT - BOTTOM - i / 4 * (HEIGHT - TOP - BOTTOM)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e3e3e3"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{most * i / 4:.0f}</text>')
    x = LEFT
    for name, (values, colour) in series.items():
        parts.append(line(values, most, colour, 1.0 if colour == "#b0b0b0" else 1.8))
        parts.append(f'<rect x="{x}" y="10" width="14" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{x + 19}" y="16" fill="#333">{name}</text>')
        x += 40 + 7 * len(name)
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 10}" text-anchor="middle" fill="#555">{title}; ')
    parts.append(f"{seconds / 60:.0f} minutes, replicas</text></svg>")
    return "\n".join(parts) + "\n"


def draw(load: Load) -> str:
    """What a load needs, what Kaon's law gives, what Knative's does."""
    calls = arrivals(load.rates, 1)
    setting = Setting(TRUTH, OBJECTIVE, Bounds(1, 200), first_replicas=15, scored_from_s=load.scored_from_s)
    first = int(load.scored_from_s)
    series: dict[str, tuple[Sequence[float], str]] = {
        "needed at full batches": ([r / SERVES_RPS for r in load.rates[first::2]], "#b0b0b0")
    }
    for name, law, colour in (("Kaon", ours(), "#0b6e99"), ("Knative, defaults", Knative(target=8.0), "#d1603d")):
        outcome = run(law, setting, calls, 1)
        label = (
            f"{name}: {100 * outcome.attainment:.1f} % in time, {outcome.replica_seconds / (load.span_s - first):.1f}"
        )
        series[label] = (outcome.replicas[first // 2 :], colour)
    return picture(SHOWN[load.name], series, load.span_s - first)


def main() -> None:
    for load in generated(2700):
        if load.name in SHOWN:
            path = FOLDER / f"scaling-{load.name}.svg"
            path.write_text(draw(load), encoding="utf-8")
            print(path)


if __name__ == "__main__":
    main()
