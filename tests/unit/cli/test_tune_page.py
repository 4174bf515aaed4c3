"""How a tuner stands as a picture, in all the ways in which it can stand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from kaon.cli.shared.charts import text
from kaon.cli.shared.text import width
from kaon.cli.tune import page as tuner_page
from kaon.types.tuning import (
    KnobState,
    LossPoint,
    ProbationStatus,
    Reach,
    Recommendation,
    TrialStatus,
    Tried,
    TuningMode,
    TuningState,
)
from kaon.types.window import LossParts

Golden = Callable[[str, str], None]
NOW = 1_700_000_000.0
MISSING = "the platform has no simulator: pip install 'kaon[sim]', then kaon down; kaon up"
BURNT = "the error budget burnt over 2 times as fast as it lasts, twice, on probation"
EVIL = "evil\x1b]0;owned\x07\u202e"


def knobs(**values: dict[str, float]) -> tuple[KnobState, ...]:
    known = (
        ("max_batch", "Rows of a batch at most.", Reach.REPLICA, 1, 32, 32),
        ("max_wait_s", "How long a batch may be held for others.", Reach.REPLICA, 0, 0.1, 0.005),
        (
            "budget_share",
            "Share of the error budget that misses may use before the headroom rises.",
            Reach.POOL,
            0.1,
            0.95,
            0.25,
        ),
        ("margin", "Factor on the headroom, at once.", Reach.POOL, 0.7, 1.4, 1.0),
    )
    return tuple(
        KnobState(
            name=name,
            what=what,
            reach=reach,
            low=low,
            high=high,
            usual=usual,
            tuned=name != "max_wait_s",
            **({"value": usual} | values.get(name, {})),
        )
        for name, what, reach, low, high, usual in known
    )


def losses(count: int, tried: range = range(0)) -> tuple[LossPoint, ...]:
    def point(n: int) -> LossPoint:
        burst = 1.0 if n % 17 == 3 else 0.0
        cost, latency = 0.8 + 0.2 * math.sin(n / 9) - (0.1 if n in tried else 0.0), 0.02 + 0.3 * burst
        parts = {"cost": cost, "latency": latency, "completion": 0.4 * burst, "utilisation": 0.3, "price": 1 + burst}
        total = cost + latency + 0.4 * burst * (1 + burst) + 0.03
        loss = None if n == 5 else LossParts(total=total, completed=0.995, **parts)
        return LossPoint(at_s=NOW - 60 * (count - n), loss=loss, tried=n in tried)

    return tuple(point(n) for n in range(count))


def tried(ago_s: float, outcome: str, realised: float | None, reason: str, **more: Any) -> Tried:
    given = {"before": {"max_batch": 8.0}, "after": {"max_batch": 16.0}, "predicted": 0.062} | more
    return Tried(at=NOW - ago_s, outcome=outcome, realised=realised, reason=reason, **given)


TRIALS = (
    tried(9000, "promoted", 0.051, "live 0.0478 in 9 windows, promised 0.0581: 0.0507 +- 0.018"),
    tried(5400, "rejected", -0.012, "worse: live -0.0113 in 14 windows, promised 0.0581: -0.002 +- 0.011"),
    tried(
        1800,
        "rolled back",
        None,
        f"p99 of 1.2 s exceeds 1.5 times the target and 1.25 times the others' {EVIL}",
        before={"margin": 1.0, "budget_share": 0.25},
        after={"margin": 0.84, "budget_share": 0.41},
    ),
    tried(300, "stopped", None, "calls are shed", before={"margin": 1.0}, after={"margin": 0.9}),
)


def state(**fields: Any) -> TuningState:
    given = {
        "workspace": "default",
        "deployment": "search",
        "mode": TuningMode.RECOMMEND,
        "state": "still",
        "reason": "three epochs on end found nothing",
        "knobs": knobs(),
        "trusted": True,
        "twin": "p50 3 % off, busy 4 % off, completion 0.1 points off",
        "epochs": 12,
        "next_epoch_at": NOW + 130,
        "losses": losses(60),
    }
    return TuningState(**(given | fields))


NEVER_ASKED = {"trusted": None, "twin": "", "epochs": 0, "next_epoch_at": None}

STATES = {
    "learning": state(
        state="learning",
        reason="11 of 30 minutes of calls have been seen",
        losses=losses(11),
        **NEVER_ASKED,
    ),
    "new": state(
        state="learning",
        reason="the tuner has not looked at it yet",
        knobs=(),
        trusted=None,
        twin="",
        epochs=0,
        losses=(),
    ),
    "recommending": state(
        state="recommending",
        reason="gain 6.2 %, at least 2.1 %",
        knobs=knobs(max_batch={"value": 8, "recommended": 16}),
        recommended=Recommendation(values={"max_batch": 16}, gain=0.062, least=0.021, at=NOW - 700),
    ),
    "canary": state(
        mode=TuningMode.AUTO,
        state="trying",
        reason="gain 6.2 %, at least 2.1 %",
        knobs=knobs(max_batch={"value": 8, "tried": 16}),
        trial=TrialStatus(
            reach=Reach.REPLICA, after={"max_batch": 16}, predicted=0.062, since=NOW - 200, replicas=1, until=NOW + 40
        ),
        losses=losses(60, range(55, 60)),
        trials=TRIALS[:1],
    ),
    "switchback": state(
        mode=TuningMode.AUTO,
        state="trying",
        reason="requested",
        knobs=knobs(margin={"tried": 0.9, "recommended": 0.8}),
        trial=TrialStatus(
            reach=Reach.POOL, after={"margin": 0.9}, since=NOW - 900, until=NOW + 40, trying=False, asked_by="ops"
        ),
        losses=losses(120, range(105, 115)),
        trials=TRIALS,
    ),
    "rolled-back": state(
        mode=TuningMode.AUTO,
        state="frozen",
        reason="three rollbacks in an hour",
        off_until=NOW + 20_000,
        trials=TRIALS,
        knobs=knobs(max_batch={"value": 16}),
    ),
    "watched": state(
        mode=TuningMode.AUTO,
        probation=ProbationStatus(safe={}, until=NOW + 1_200),
        trials=(
            *TRIALS[:1],
            Tried(at=NOW - 900, before={"max_batch": 16}, after={"max_batch": 8}, outcome="went back", reason=BURNT),
        ),
        knobs=knobs(max_batch={"value": 16}),
    ),
    "asked": state(asked={"max_batch": 16}),
    "untuned": state(
        reason="there is nothing to tune: no batches, and no choice of how many replicas there are",
        knobs=knobs()[1:2],
        losses=(),
        **NEVER_ASKED,
    ),
    "disbelieved": state(
        state="frozen",
        reason="the twin's replay is inaccurate, so its results are not tried: p50 9.1 ms in the twin, 21.4 ms seen",
        trusted=False,
        twin="p50 9.1 ms in the twin, 21.4 ms seen",
        epochs=1,
    ),
    "off": state(mode=TuningMode.OFF, state="off", reason="it is switched off", trusted=None, twin="", epochs=0),
    "no-twin": state(state="frozen", reason=f"the twin: {MISSING}", **(NEVER_ASKED | {"twin": MISSING})),
    "evil": state(workspace="team-a", reason=EVIL, twin=EVIL, trusted=False, state=EVIL),
}


@pytest.mark.parametrize("across", [80, 120])
@pytest.mark.parametrize("name", STATES)
def test_it_looks_as_agreed(name: str, across: int, golden: Golden) -> None:
    drawn = text(tuner_page.page(STATES[name], NOW, across))
    golden(f"shown/tune-{name}-{across}", drawn + "\n")
    assert max(map(width, drawn.split("\n"))) <= across
    assert "\x1b" not in drawn
    assert "\u202e" not in drawn


@pytest.mark.parametrize("name", STATES)
def test_it_fits_short_terminals_and_narrow_ones(name: str) -> None:
    for down in (24, 28, 40, 60):
        assert len(tuner_page.page(STATES[name], NOW, 80, down)) <= down
    for across in (40, 60):
        assert max(width(line) for line in text(tuner_page.page(STATES[name], NOW, across)).split("\n")) <= across


def test_the_parts_of_a_loss_add_up_to_it() -> None:
    loss = LossParts(
        total=0.8 + 0.1 + 0.05 + 3 * 0.2,
        latency=0.1,
        completion=0.2,
        utilisation=0.5,
        cost=0.8,
        completed=0.98,
        price=3,
    )
    assert sum(tuner_page.parts_of(loss, state().weights).values()) == pytest.approx(loss.total)


def test_values_are_read_in_their_units() -> None:
    assert [tuner_page.knob_text("max_wait_s", v) for v in (0.0, 0.005, 2.0, None)] == ["0", "5.0 ms", "2.0 s", "-"]
    assert [tuner_page.knob_text("max_batch", v) for v in (16.0, 4096.0)] == ["16", "4096"]
    assert tuner_page.knob_text("margin", 0.84213) == "0.842"


def test_a_loss_has_three_digits_so_that_two_of_them_stand_beside_a_chart() -> None:
    point = LossPoint(
        at_s=NOW, loss=LossParts(total=50.61, latency=0, completion=0, utilisation=0, cost=50.61, completed=1, price=1)
    )
    for across in (60, 80):
        drawn = text(tuner_page.page(state(losses=(point,)), NOW, across))
        assert "50.6/50.6\n" in drawn
        assert "now/most\n" in drawn


def test_a_gain_is_told_as_what_it_does_to_the_loss() -> None:
    assert [tuner_page.loss_change(gain) for gain in (0.062, -0.012, 0.0, None)] == ["-6.2 %", "+1.2 %", "+0.0 %", "-"]
