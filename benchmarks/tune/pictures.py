"""The pictures of docs/explanation/tuning.md: `python -m benchmarks.tune.pictures`."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean, stdev

from benchmarks.autoscale.loads import Load, generated
from benchmarks.tune.arms import best_fixed
from benchmarks.tune.tuned import Tuned
from benchmarks.tune.world import (
    BOUNDS,
    LARGEST,
    OBJECTIVE,
    REFERENCE_S,
    SPACE,
    START,
    Life,
    calls,
    largest,
    law,
    score,
)
from kaon.laws.loss import latency_loss
from kaon.laws.tune.epoch import Depth
from kaon.sim.picture import BLUE, GREEN, GREY, ORANGE, picture
from kaon.sim.twin import Episode, FittedModel, Twin, Unevenness

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "explanation"
SEED = 3


def smooth(losses: tuple[float | None, ...], over: int = 10) -> list[float]:
    """Means of the last `over` windows."""
    values = [loss for loss in losses if loss is not None]
    return [fmean(values[max(0, i - over + 1) : i + 1]) for i in range(len(values))][over:]


def a_life(load: Load) -> str:
    """The loss over time without the tuner, with it, and with the best knobs in hindsight."""
    untuned = score(Life(load, SEED, law(START)).run(), load)
    tuned = Tuned(load, SEED)
    ours = score(tuned.run(), load)
    best, _ = best_fixed(load, SEED)
    print(f"untuned {untuned.loss:.3f}, tuned {ours.loss:.3f}, hindsight {best.loss:.3f}; {tuned.told.trials}")
    series = {
        f"untuned: {untuned.loss:.2f}, {100 * untuned.attainment:.2f} % in time": (smooth(untuned.losses), ORANGE),
        f"tuned: {ours.loss:.2f}, {100 * ours.attainment:.2f} %": (smooth(ours.losses), BLUE),
        f"hindsight: {best.loss:.2f}": (smooth(best.losses), GREEN),
    }
    span = load.span_s - 600.0
    marks = [(t["at_s"] - 600) / span for t in tuned.told.trials if t["how"] == "promoted"]
    below = f"loss, mean of ten minutes, over {span / 60:.0f} minutes; dashed: a move was promoted"
    return picture("Loss with and without the tuner", series, span, below=below, marks=marks)


def a_difference(load: Load) -> str:
    """What common luck does: two settings, minute by minute, with the same luck, other luck, or one after the other."""
    episode = Episode(calls(load, SEED), 1800.0, 0.0, 15, None).part(1800.0)
    model = FittedModel(0.025, 0.08, LARGEST, Unevenness(0.45))
    copy = Twin(
        model, OBJECTIVE, BOUNDS, law, lambda v: (largest(v), 1, 0.0), REFERENCE_S, 1.0, (episode,), (episode,), seeds=1
    )
    other = SPACE.moved(START, tuple(z + 0.1 for z in SPACE.point(START)))
    force, same, different = copy(START, 1, Depth.WHOLE), copy(other, 1, Depth.WHOLE), copy(other, 2, Depth.WHOLE)
    minutes = range(5, len(force))
    paired = [abs(same[i].loss - force[i].loss) for i in minutes]
    apart = [abs(different[i].loss - force[i].loss) for i in minutes]
    after = [abs(same[i].loss - force[i - 1].loss) for i in minutes]
    print("mean differences: {:.3f}, {:.3f}, {:.3f}".format(*(fmean(x) for x in (after, apart, paired))))
    series = {
        f"one after the other: {stdev(after):.2f}": (after, GREY),
        f"same calls, other luck: {stdev(apart):.2f}": (apart, ORANGE),
        f"same calls, same luck: {stdev(paired):.2f}": (paired, BLUE),
    }
    below = "difference of the loss between two settings, minute by minute; the legend has standard deviations"
    return picture("Differences with and without common random numbers", series, 1800.0, below=below)


def the_latency_loss() -> str:
    """What an answer costs by its latency, and what a plain linear price would be."""
    at = [i / 100 for i in range(301)]
    series = {"T / t* - 1, plain": ([max(0.0, x - 1) for x in at], GREY), "Lt": ([latency_loss(x) for x in at], BLUE)}
    below = "latency over its target, from 0 to 3; dashed: the target"
    return picture("The loss of an answer's latency", series, 3.0, below=below, marks=(1 / 3,))


def main() -> None:
    load = {x.name: x for x in generated(7200)}["day"]
    for name, drawn in (("life", a_life(load)), ("pairs", a_difference(load)), ("latency", the_latency_loss())):
        (FOLDER / f"tuning-{name}.svg").write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main()
