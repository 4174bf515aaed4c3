"""Writes the figures of benchmarks/tune_live/README.md from the last run: `python -m benchmarks.tune_live.pages`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.live.pages import table
from benchmarks.report import RESULTS
from benchmarks.tune_live.before_after import FOUND, TUNED, UNTUNED
from benchmarks.tune_live.judge import unsafe
from kaon.sim.picture import BLUE, GREY, picture

FOLDER = Path(__file__).parent
PAGE = FOLDER / "README.md"
BEGIN, END = "<!-- figures of benchmarks/results/tune-live.json -->\n", "<!-- end of figures -->\n"
NAMES = {UNTUNED: "untuned", TUNED: "while it is tuned", FOUND: "with what was found, from the start"}
HEAD = ("", "loss", "cost", "latency", "missed", "in time", "replica-s", "p50 s", "p99 s", "lost", "shed")
SMOOTHED = 5
"""Minutes of the tuner's that a point of a picture is the mean of."""


def row(name: str, x: dict[str, Any]) -> tuple[str, ...]:
    """An arm, or the later half of it."""
    return (
        name,
        *(f"{x[part]:.3f}" for part in ("loss", "cost", "latency", "completion")),
        f"{100 * x['attainment']:.2f} %",
        f"{x['replica_seconds']:.0f}",
        f"{x['p50_s']:.2f}",
        f"{x['p99_s']:.2f}",
        str(x["lost"]),
        str(x["shed"]),
    )


def of_arms(arms: dict[str, Any]) -> str:
    """Whole runs, then second halves."""
    rows = [row(NAMES[arm], x["whole"]) for arm, x in arms.items()]
    rows += [row(f"{NAMES[arm]}; second half", x["later"]) for arm, x in arms.items()]
    return table(HEAD, rows)


def of_tuner(arms: dict[str, Any]) -> str:
    """What the tuner did."""
    x, before = arms[TUNED]["tuner"], arms[UNTUNED]
    changed = {name: value for name, value in x["values"].items() if value != x["usual"][name]}
    lines = [
        f"{x['epochs']} epochs, {len(x['trials'])} trials; {x['records']} records, of which {x['replayed']} replay. "
        f"Windows that were unsafe with it and not without: {100 * unsafe(before, arms[TUNED]):.1f} %. "
        f"It ended with {said(changed)}.",
        "",
    ]
    if x["trials"]:
        rows = [
            (
                said({k: v for k, v in trial["after"].items() if trial["before"].get(k) != v}),
                trial["outcome"],
                percent(trial["predicted"]),
                percent(trial["realised"]),
                trial["reason"].replace("|", "/"),
            )
            for trial in x["trials"]
        ]
        head = "| tried | outcome | promised | came of it | why |\n| --- | --- | --: | --: | --- |\n"
        lines.append(head + "".join(f"| {' | '.join(cells)} |\n" for cells in rows))
    elif x["twin"]:
        lines.append(f"The twin's last word: {x['twin']}.\n")
    return "\n".join(lines)


def said(values: dict[str, float]) -> str:
    """Values in words."""
    return ", ".join(f"{name} {value:.3g}" for name, value in values.items()) or "what it began with"


def percent(share: float | None) -> str:
    """A share in per cent; None: a dash."""
    return "-" if share is None else f"{100 * share:.1f} %"


def draw(name: str, arms: dict[str, Any], setting: dict[str, Any]) -> str:
    """The loss of both arms, minute by minute, and when trials began; the picture's name."""

    def smooth(values: list[float]) -> list[float]:
        cut = [min(value, 6.0) for value in values]
        return [
            sum(cut[max(0, i - SMOOTHED + 1) : i + 1]) / len(cut[max(0, i - SMOOTHED + 1) : i + 1])
            for i in range(len(cut))
        ]

    series = {
        "untuned": (smooth(arms[UNTUNED]["losses"]), GREY),
        "while it is tuned": (smooth(arms[TUNED]["losses"]), BLUE),
    }
    story = arms[TUNED]["tuner"]["story"]
    states = ["", *(state for _, state, _ in story)]
    tries = [at for (at, state, _), before in zip(story, states, strict=False) if state == "trying" and before != state]
    minutes = setting["seconds"] * setting["times"] / 60
    below = f"{name}: loss, mean of {SMOOTHED} minutes; {minutes:.0f} minutes; dashed: a trial begins"
    path = FOLDER / f"{name}.svg"
    marks = [at / setting["seconds"] for at in tries]
    path.write_text(picture(name, series, setting["seconds"] * setting["times"], below=below, marks=marks))
    return path.name


def of_before_after(figures: dict[str, Any]) -> list[str]:
    """Every load of the service of known cost."""
    parts = []
    for name, arms in figures.get("tuned", {}).get("loads", {}).items():
        shown = draw(name, arms, figures["tuned"]["setting"])
        parts += [f"### {name}\n", of_arms(arms), of_tuner(arms), f"![Loss on {name}]({shown})\n"]
        again = figures.get("found", {}).get("loads", {}).get(name)
        if again:
            parts += ["The same calls again, beside the untuned one:\n", of_arms(again)]
    return parts


def of_model(figures: dict[str, Any]) -> list[str]:
    """MiniLM."""
    parts = []
    for name, arms in figures.get("model", {}).get("loads", {}).items():
        parts += [f"### MiniLM, on {name}\n", of_arms(arms), of_tuner(arms)]
    return parts


def of_path(figures: dict[str, Any]) -> list[str]:
    """What calls feel."""
    told = figures.get("path")
    if not told:
        return []
    rows = []
    for name, x in told["states"].items():
        ratios = (x.get(f"p{q}_{beside}") for beside in ("over_off", "ratio") for q in (50, 99))
        shown = [f"{r[0]:.2f} ({r[1]:.2f} to {r[2]:.2f})" if r else "" for r in ratios]
        rows.append((name, str(x["calls"]), f"{x['p50_ms']:.2f}", f"{x['p99_ms']:.2f}", *shown))
    head = ("tuner", "calls", "p50 ms", "p99 ms", "p50 beside off", "p99 beside off", "p50, same CPU", "p99, same CPU")
    return ["### What calls feel of it\n", table(head, rows)]


def main() -> None:
    figures = json.loads((RESULTS / "tune-live.json").read_text())["figures"]
    body = "\n".join([*of_before_after(figures), *of_model(figures), *of_path(figures)])
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{body}\n{END}{after}")


if __name__ == "__main__":
    main()
