"""The pictures of docs/explanation/scaling.md: `python -m benchmarks.autoscale.pictures`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.autoscale.arms import OBJECTIVE, SERVES_RPS, TRUTH, ours
from benchmarks.autoscale.loads import Load, generated
from kaon.laws.scaling import Bounds
from kaon.laws.scaling_peers import Knative
from kaon.sim.picture import BLUE, GREY, ORANGE, picture
from kaon.sim.run import SimulationSetting, run
from kaon.sim.traffic import arrivals

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "explanation"
SHOWN = {"day": "a day in half an hour", "bursts": "bursts shorter than a start"}


def draw(load: Load) -> str:
    """What a load needs, what Kaon's law gives, what Knative's does."""
    calls = arrivals(load.rates, 1)
    setting = SimulationSetting(TRUTH, OBJECTIVE, Bounds(1, 200), first_replicas=15, scored_from_s=load.scored_from_s)
    first = int(load.scored_from_s)
    series: dict[str, tuple[Sequence[float], str]] = {
        "needed at full batches": ([r / SERVES_RPS for r in load.rates[first::2]], GREY)
    }
    for name, law, colour in (("Kaon", ours(), BLUE), ("Knative, defaults", Knative(target=8.0), ORANGE)):
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
