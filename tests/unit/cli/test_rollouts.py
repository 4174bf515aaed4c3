"""How trials and comparisons look on a terminal, and what the options of canaries and shadows mean."""

from __future__ import annotations

import pytest
from tests.replicas import replica_status
from tests.statuses import status_with

from kaon.api.views import DeploymentView
from kaon.cli.deploy import spec as deploy_spec
from kaon.cli.rollout.pages import canary_page, shadow_page
from kaon.cli.shared.rollout_wait import QuietCanary, awaits_promotion, failed_shadow, starting_shadow
from kaon.errors import InvalidInput
from kaon.types.deployment import (
    Assignment,
    Canary,
    CanaryArm,
    CanaryGate,
    CanaryStatus,
    DeploymentSpec,
    Rollout,
    RolloutState,
    Template,
)
from kaon.types.replica import Phase
from kaon.types.shadow import Difference, Example, ShadowReport

TEMPLATE = Template(artifact=f"sha256:{'0' * 64}")


def view(step: int = 0, *, hold: bool = False, reason: str = "61 of 100 calls answered.") -> DeploymentView:
    canary = CanaryStatus(
        revision=2,
        step=step,
        since=1000,
        in_force=True,
        slow_s=0.032,
        new=CanaryArm(calls=61, failed=2, timed=50, slow=0, p99_s=0.021),
        old=CanaryArm(calls=1520, failed=3, timed=1400, slow=12, p99_s=0.024),
        gates=(
            CanaryGate(name="errors", verdict="not known yet", leans="worse", odds=3.2, needed=120, reason="2 of 61"),
            CanaryGate(name="slowness", verdict="fine", leans="fine", odds=1e9, needed=120, reason="0 of 50"),
        ),
    )
    status = status_with(
        stable=1,
        target=2,
        canary=canary,
        assignments=(
            Assignment(revision=1, replicas=3, ready=3, weight=75),
            Assignment(revision=2, replicas=1, ready=1, weight=25),
        ),
    )
    rules = Canary(steps=(25, 50), hold=hold)
    return DeploymentView(
        kind="deployment",
        workspace="default",
        name="shop",
        uid="u",
        version=1,
        generation=1,
        created_at=0,
        updated_at=0,
        spec=DeploymentSpec(template=TEMPLATE, rollout=Rollout(canary=rules)),
        status=status,
        url="http://x/shop",
        state=RolloutState.PROGRESSING,
        reason=reason,
        ready=4,
        replicas=4,
        revision=1,
    )


def test_a_trial_shows_step_shares_figures_of_both_and_the_evidence() -> None:
    assert canary_page(view(), 1034).splitlines() == [
        "shop: Progressing, step 1 of 2, 34s of 60s",
        "  61 of 100 calls answered.",
        "",
        "REVISION  SHARE  READY  ANSWERED  FAILED     OVER 32 MS   P99",
        "1 stable  75 %   3/3    1,520     3 (0.2 %)  12 (0.86 %)  24 ms",
        "2 canary  25 %   1/1    61        2 (3.3 %)  0 (0 %)      21 ms",
        "",
        "errors: not known yet, tends to worse; confidence 3:1 (needs 120:1)",
        "slowness: fine; confidence over a million:1 (needs 120:1)",
    ]


def test_what_others_wrote_cannot_paint_the_terminal() -> None:
    assert "\x1b" not in canary_page(view(reason="\x1b[2J gone"), 1034)
    evil = Difference(path="a\x1b[31m", serving="\x1b]0;x\x07", shadow=None)
    example = Example(request_id="r\x1b", endpoint="e", at=1, differences=(evil,))
    text = shadow_page("shop", ShadowReport(revision=2, differing=1, examples=(example,)), 5)
    assert "\x1b" not in text
    assert "\x07" not in text


def test_a_canary_that_is_held_after_its_last_step_waits_for_a_yes() -> None:
    assert awaits_promotion(view(2, hold=True))
    assert not awaits_promotion(view(2))
    assert not awaits_promotion(view(1, hold=True))


def called(calls: int, *, in_force: bool = True) -> DeploymentView:
    """The trial after so many calls."""
    made = view()
    assert made.status.rollout.canary is not None
    canary = made.status.rollout.canary.model_copy(update={"in_force": in_force, "new": CanaryArm(calls=calls)})
    return made.model_copy(update={"status": status_with(made.status, canary=canary)})


def test_who_waits_for_a_canary_that_nobody_calls_is_told_once_how_to_go_on() -> None:
    quiet = QuietCanary()
    assert [quiet.warning(called(0, in_force=False), now) for now in (0, 60)] == ["", ""], "its replicas are not ready"
    assert [quiet.warning(called(calls), now) for calls, now in ((0, 70), (0, 75), (3, 82), (3, 90))] == [""] * 4
    said = quiet.warning(called(3), 92)
    assert "Ctrl-C ends the wait, not the rollout" in said
    assert "kaon rollout promote shop" in said
    assert quiet.warning(called(3), 900) == "", "once is enough"


def test_a_shadow_is_waited_for_until_it_is_ready_or_has_failed() -> None:
    made = view()
    shadow = status_with(shadow=2, assignments=(Assignment(revision=2, replicas=1),))
    waiting = made.model_copy(update={"status": shadow})
    replica = replica_status("0" * 12, Phase.LOADING, name="shop-2-0", revision=2)
    crashed = replica.model_copy(update={"phase": Phase.CRASHED})
    assert starting_shadow(waiting)
    assert not starting_shadow(made), "it has none"
    assert not failed_shadow(waiting, [replica])
    assert failed_shadow(waiting, [replica, crashed])
    assert not failed_shadow(waiting, [crashed.model_copy(update={"revision": 1})])


def test_steps_are_read_as_people_write_them_and_keep_what_is_not_named() -> None:
    assert deploy_spec.canary_rules("5,25%", 30.0, None) == Canary(steps=(5, 25), step_s=30)
    assert deploy_spec.canary_rules("", 30.0, Canary(steps=(7,), hold=True)) == Canary(steps=(7,), step_s=30, hold=True)
    assert deploy_spec.canary_rules("off", None, Canary()) is None


@pytest.mark.parametrize("steps", ["50,5", "0", "100", "a,b", "5,,25", "5,5"])
def test_steps_that_make_no_sense_are_told(steps: str) -> None:
    with pytest.raises(InvalidInput, match="--canary"):
        deploy_spec.canary_rules(steps, None, None)


def test_a_comparison_shows_where_answers_differ() -> None:
    difference = Difference(path="scores[0]", serving=1.0, shadow=1.5)
    example = Example(request_id="r1", endpoint="score", at=95, differences=(difference,))
    report = ShadowReport(
        revision=2,
        percent=10,
        since=40,
        matched=90,
        differing=10,
        missing=1,
        paths={"score scores[]": 10},
        examples=(example,),
    )
    assert shadow_page("shop", report, 100).splitlines() == [
        "Revision 2 gets copies of 10 % of the calls of shop.",
        "  compared 100: 90 equal, 10 (10 %) different; 1 without the caller's answer",
        "  started 1m ago",
        "",
        "DIFFERENT AT    CALLS",
        "score scores[]  10",
        "",
        "score, request r1, 5s ago",
        "  scores[0]: 1.0 -> 1.5",
    ]


def test_a_shadow_keeps_the_template_that_serves() -> None:
    current, new = DeploymentSpec(template=TEMPLATE), {"artifact": f"sha256:{'1' * 64}"}
    members = deploy_spec.as_shadow(current, {"template": new, "public": True}, 10)
    spec = DeploymentSpec.model_validate(current.model_dump() | members)
    assert spec.template == TEMPLATE
    assert spec.shadow
    assert spec.shadow.template == Template(**new)
    with pytest.raises(InvalidInput, match="existing deployment"):
        deploy_spec.as_shadow(None, {"template": new}, 10)
