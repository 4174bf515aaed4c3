"""benchmarks/tune/README.md, written from benchmarks/results/tune.json: `python -m benchmarks.tune.pages`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "results" / "tune.json"
PAGE = Path(__file__).with_name("README.md")

_HEAD = """# Self-tuning against everything else

`make bench-tune TRACES=DIR` wrote this page from `benchmarks/results/tune.json`. {what} All of it is
simulated, in a truth that the twin does not know: costs that are not linear, one batch in a hundred five times as long,
one replica in ten half as slow again, starts with a long tail, and all costs higher from the middle on.

A life is two hours. A trace of an hour is played twice, one of a single day four times, with calls at other moments
each time; of longer ones the first four days are played, each in half an hour. What others tune, they tune on the
first day or hour, over some seventy configurations of law and batch size. Figures without another word are of all
that comes later; losses count from the first second, exploration included. Constants of the tuner were chosen on the
same traces with other seeds, not on these.

The rival is, on each trace, the grid-tuned reactive law that needs the fewest replica-seconds of those that reach
99 %; where none does, the one that comes nearest.

## The claim
"""

_LIMITS = """
## What to make of it

- A trace is won when at least 15 % of replica-seconds are saved, with at least 99 % in time and, where the rival
  has less than that, no less than the rival. Losing traces are above, with the others.
- *Hindsight* chooses the best of 36 settings after the fact, one for each trace, by the mean loss over its lives. The
  *luckiest* are chosen anew for each life: the law that is tuned takes other turns from a small change of anything, so
  the best of 36 on one life is in part luck, and no knobs could have it again.
- A *bad* minute burns the error budget more than twice as fast as it lasts. A minute is unsafe where the tuned life
  has one and the untuned life has none. Knobs that use the error budget, as the best in hindsight do, have bad minutes
  at other times than knobs that leave it; the table of unsafe minutes tells theirs too.
- **Closed-loop clients**, who wait for an answer before the next call, are not in it: arrivals do not depend on the
  knobs here.
- **Few calls** are not in it either: every trace is scaled to some 250 calls a second.
- There is no canary in this simulation: every knob is tried by switchback, as the pool's are. The real platform's
  canaries are measured by `make bench-tune-live`.
"""


def write() -> None:
    """The page, from the newest results."""
    results = json.loads(RESULTS.read_text())
    PAGE.write_text(page(results), encoding="utf-8")


def page(results: dict[str, Any]) -> str:
    """The whole page."""
    loads = results["figures"].get("loads", {})
    counts = sorted({len(found["seeds"]) for found in loads.values()})
    span = "-".join(str(n) for n in dict.fromkeys((counts[0], counts[-1]))) if counts else "no"
    what = f"{len(loads)} public traces, {span} seeds each, intervals by bootstrap (95 %)."
    parts = [_HEAD.format(what=what), _claim(results), _traces(loads), _unsafe(loads)]
    parts += [_over_all(results["figures"]["over_all"])]
    parts += [_arms(name, found) for name, found in loads.items()]
    notes = "".join(f"- {note}\n" for note in results["notes"])
    return "".join(parts) + _LIMITS + (f"\nNotes of the run:\n\n{notes}" if notes else "")


def _claim(results: dict[str, Any]) -> str:
    rows = ""
    for bar in results["bars"]:
        holds = "holds" if bar["ok"] else "**fails**"
        rows += f"| {bar['name'].replace('_', ' ')} | {bar['value']:.3g} | {bar['goal']:g} | {holds} |\n"
    machine = results.get("machine")
    timed = f"\nSearches are timed alone, on: {machine['cpu']}, Python {machine['python']}.\n" if machine else ""
    return f"\n| clause | measured | goal | |\n|---|--:|--:|---|\n{rows}{timed}"


def _traces(loads: dict[str, Any]) -> str:
    rows = ""
    for name, found in loads.items():
        arms = found["arms"]
        most = arms["best knobs in hindsight"]["later_replica_seconds"][0]
        knows = arms["clairvoyant"]["later_replica_seconds"][0]
        rival = arms[found["rival"]]["later_replica_seconds"][0]
        rows += (
            f"| {name} | {'won' if found['won'] else '**lost**'} | {_share(found['replica_seconds_saved'])} "
            f"| {1 - most / rival:+.1%} | {1 - knows / rival:+.1%} "
            f"| {found['rival']}{'' if found['rival_reaches_goal'] else ' (below 99 %)'} "
            f"| {100 * arms['ours']['later_attainment'][0]:.2f} "
            f"| {_share(found['loss_against_untuned'])} | {_share(found['above_hindsight_after_an_hour'])} "
            f"| {found['untuned_above_hindsight_after_an_hour'][0]:+.1%} "
            f"| {found['above_luckiest_after_an_hour'][0]:+.1%} "
            f"| {_share(found['gap_to_clairvoyant_closed'])} "
            f"| {found['first_hour_regret'][0]:+.1%} | {found['unsafe_windows'][0]:.2%} |\n"
        )
    return (
        "\n## Trace by trace\n\n| trace | | replica-s saved | in hindsight "
        "| by who knows the future | rival | in time % | loss against untuned "
        "| loss above hindsight after an hour | the same, untuned | above the luckiest "
        "| share of the gap to clairvoyant | first hour | unsafe |\n"
        f"|---|---|--:|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|\n{rows}"
    )


def _unsafe(loads: dict[str, Any]) -> str:
    rows = ""
    for name, found in loads.items():
        bad, best = found["bad_windows"], found["hindsight"]
        rows += (
            f"| {name} | {best['max_batch']:.0f}, {best['budget_share']:g}, {best['contest_share']:g} "
            f"| {found['unsafe_windows'][0]:.2%} | {found['unsafe_windows_while_trying'][0]:.2%} "
            f"| {found['unsafe_windows_of_hindsight'][0]:.2%} "
            f"| {bad['ours']:.2%} | {bad['best knobs in hindsight']:.2%} | {bad['untuned']:.2%} |\n"
        )
    return (
        "\n## Unsafe and bad minutes\n\n| trace | best knobs in hindsight: batch, budget, contest | unsafe, tuned "
        "| of these while trying | unsafe, hindsight | bad, tuned | bad, hindsight | bad, untuned |\n"
        f"|---|---|--:|--:|--:|--:|--:|--:|\n{rows}"
    )


def _over_all(arms: dict[str, Any]) -> str:
    rows = "".join(
        f"| {name} | {row['seeds']} | {_share(row['above_ours'])} | {row['unsafe']:.2%} | {row['below_goal']:.0%} |\n"
        for name, row in arms.items()
    )
    return (
        "\n## What each part is worth\n\n"
        "In the mean over all traces: the tuner, itself without a part, and other ways to tune.\n\n"
        "| arm | seeds | loss against ours, same calls | unsafe minutes | lives below 99 % |\n"
        f"|---|--:|--:|--:|--:|\n{rows}"
    )


def _share(interval: list[float] | None) -> str:
    if interval is None:
        return "no gap"
    middle, low, high = interval
    return f"{middle:+.1%} ({low:+.1%} to {high:+.1%})"


def _arms(name: str, found: dict[str, Any]) -> str:
    rows = ""
    for arm, row in sorted(found["arms"].items(), key=lambda x: x[1]["above_ours"][0]):
        low, high = row["loss"][1:]
        rows += (
            f"| {arm} | {row['seeds']} | {_share(row['above_ours'])} "
            f"| {row['loss'][0]:.3f} ({low:.3f} to {high:.3f}) | {row['later_loss'][0]:.3f} "
            f"| {100 * row['later_attainment'][0]:.2f} | {row['later_replica_seconds'][0]:.0f} "
            f"| {row['p99_s'][0]:.2f} | {row['worst_burn_5min'][0]:.1f} |\n"
        )
    return (
        f"\n### {name}\n\n| arm | seeds | loss against ours, same calls | loss (95 %) | later loss "
        "| in time % | replica-s | p99 s | worst burn of 5 min |\n"
        f"|---|--:|--:|--:|--:|--:|--:|--:|--:|\n{rows}"
    )


if __name__ == "__main__":
    write()
