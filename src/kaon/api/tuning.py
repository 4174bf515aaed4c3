"""`/workspaces/{ws}/deployments/{name}/tuning`: how the tuner stands, and what somebody wants of it.

The mode is a part of the spec. All else is one edit of the status, which the controllers take up: no route turns a
knob.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from fastapi import Response

from kaon.api.context import ApiContext, DeploymentParam, WithContext, WorkspaceParam
from kaon.api.deployment_edit import DeploymentEdit, WithEdit, deployment_of
from kaon.api.preconditions import Precondition
from kaon.api.problems import Unprocessable
from kaon.api.router import AuthorizedRouter
from kaon.errors import Conflict
from kaon.laws.tune import board, scaling, values_in_force
from kaon.laws.tune.board import lasting
from kaon.types.deployment import DeploymentSpec, DeploymentStatus
from kaon.types.etag import etag
from kaon.types.key import Right
from kaon.types.knobs import KnobValues, figure, spelled
from kaon.types.resource import Deployment
from kaon.types.service import ServiceSpec
from kaon.types.tuning import KnobState, TuningMode, TuningRequest, TuningState, TuningStatus

_MODES = {
    TuningMode.OFF: "The tuner is off.",
    TuningMode.RECOMMEND: "The tuner recommends and changes nothing.",
    TuningMode.AUTO: "The tuner tries what its twin finds better, and keeps what proves so.",
}

router = AuthorizedRouter("/workspaces/{ws}/deployments", tag="deployments")


@router.get("/{deployment}/tuning", right=Right.READ)
async def get_tuning(
    ws: WorkspaceParam, name: DeploymentParam, response: Response, context: WithContext
) -> TuningState:
    """How the tuner stands: its knobs, what it tries and recommends, what it tried, and the loss by the minute."""
    deployment = await deployment_of(context, ws, name)
    response.headers["etag"] = _tag(deployment)
    return await _state(context, deployment)


@router.post("/{deployment}/tuning", right=Right.WRITE)
async def steer_tuning(body: TuningRequest, edit: WithEdit) -> TuningState:
    """Set the mode; apply the recommendation; undo; put values in force, or try them: one of these."""
    edit, context = replace(edit, tag=_tag), edit.context
    deployment = await edit.current()
    if body.mode is not None:
        return await _set_mode(edit, deployment, body.mode)
    values = body.attempt if body.set is None else body.set
    if values is not None:
        knobs = (await _state(context, deployment)).knobs
        check_values(edit.name, values, knobs)
        if body.attempt is not None:
            check_trial(deployment, values, knobs)

    def changed(current: Deployment) -> DeploymentStatus:
        tuning = _changed(current, body, context.clock.now(), edit.caller.name)
        return current.status.model_copy(update={"tuning": tuning})

    def message(before: DeploymentStatus, after: DeploymentStatus) -> str:
        return _message(body, before.tuning, after.tuning)

    return await _state(context, await edit.write_status(changed, "Tuned", message))


def _tag(deployment: Deployment) -> str:
    """The entity tag of how the tuner stands: of what people decide by, not of what it measures meanwhile."""
    tuning: TuningStatus = deployment.status.tuning
    seen = tuning.model_dump_json(include={"values", "recommended", "trial", "asked"})
    digest = hashlib.sha256(f"{deployment.uid} {seen}".encode()).hexdigest()
    return etag(digest[:16], deployment.generation)


def check_values(name: str, wanted: KnobValues, knobs: tuple[KnobState, ...]) -> None:
    """Raises `Unprocessable` that names each value which is none of a knob's, and says what it takes, or which are."""
    by_name = {knob.name: knob for knob in knobs}
    missing = f"there is no such knob; there is {', '.join(by_name) or 'none'}"
    wrong = {
        told: missing if knob is None else f"takes {ranged(knob)}"
        for told, value in wanted.items()
        if not _takes(knob := by_name.get(told), value)
    }
    if wrong:
        raise Unprocessable(
            f"The knobs of '{name}' do not take that.",
            hint=f"See its knobs: kaon tune {name}",
            errors=[{"where": knob, "message": said} for knob, said in list(wrong.items())[:20]],
        )


def ranged(knob: KnobState) -> str:
    """What a knob takes."""
    unit = " s" if knob.name.endswith("_s") else ""
    return f"{figure(knob.low)} to {figure(knob.high)}{unit}{', whole numbers' if knob.whole else ''}"


def _takes(knob: KnobState | None, value: float) -> bool:
    return knob is not None and knob.low <= value <= knob.high and not (knob.whole and value != int(value))


def check_trial(deployment: Deployment, wanted: KnobValues, knobs: tuple[KnobState, ...]) -> None:
    """Raises `Unprocessable` for what would never be tried: where nothing is tuned, and for what is in force."""
    name = deployment.name
    if not any(knob.tuned for knob in knobs):
        typed = " ".join(f"--set {knob}={figure(value)}" for knob, value in wanted.items())
        raise Unprocessable(
            f"Nothing is tried for '{name}': {scaling.NOTHING}.",
            hint=f"Put it in force at once: kaon tune {name} {typed}",
        )
    if all(knob.value == wanted[knob.name] for knob in knobs if knob.name in wanted):
        raise Unprocessable(
            f"That is in force for '{name}' already: there is nothing to try.", hint=f"See: kaon tune {name}"
        )


def _changed(current: Deployment, body: TuningRequest, now_s: float, by: str) -> TuningStatus:
    """The tuner's part of the status as somebody wants it. Raises `Unprocessable`, `Conflict`; pure."""
    was: TuningStatus = current.status.tuning
    name = current.name
    if body.apply:
        if was.recommended is None:
            raise Unprocessable(f"Nothing is recommended for '{name}'.", hint=f"See why: kaon tune {name}")
        return values_in_force.put(was, was.recommended.values, now_s, by)
    if body.undo:
        if not values_in_force.undoes(was):
            raise Unprocessable(
                f"There is nothing to undo: the knobs of '{name}' were never changed, and nothing is tried.",
                hint=f"See: kaon tune {name}",
            )
        return values_in_force.undone(was, now_s, by)
    if body.set is not None:
        return values_in_force.put(was, body.set, now_s, by)
    assert body.attempt is not None
    if current.spec.tuning.mode is TuningMode.OFF:
        raise Unprocessable(
            f"The tuner of '{name}' is off: it tries nothing.", hint=f"Switch it on: kaon tune {name} --recommend"
        )
    if was.trial is not None:
        raise Conflict(
            f"Something is being tried for '{name}' already.", hint=f"Wait for it, or end it: kaon tune {name} --undo"
        )
    if now_s < was.off_until:
        raise Conflict(
            f"Nothing is tried for '{name}' for another {lasting(was.off_until - now_s)}: too much was taken back.",
            hint=f"See what: kaon tune {name}; without a trial: kaon tune {name} --set KNOB=VALUE",
        )
    return values_in_force.asked(was, body.attempt, by)


async def _set_mode(edit: DeploymentEdit, deployment: Deployment, mode: TuningMode) -> TuningState:
    if deployment.spec.tuning.mode is not mode:
        if edit.precondition != Precondition():  # it holds of what was read; the mode is a part of the spec
            based_on = Precondition(tag=etag(deployment.uid, deployment.generation))
            edit = replace(edit, precondition=based_on, tag=None)

        def changed(current: Deployment) -> DeploymentSpec:
            tuning = current.spec.tuning.model_copy(update={"mode": mode})
            return current.spec.model_copy(update={"tuning": tuning})

        await edit.write_spec(changed, "TuningMode", _MODES[mode])
    return await _state(edit.context, await deployment_of(edit.context, edit.workspace, edit.name))


def _message(body: TuningRequest, before: TuningStatus, after: TuningStatus) -> str:
    """The message of the event."""
    if body.attempt is not None:
        return f"To be tried: {spelled(body.attempt)}."
    if body.undo and before.values == after.values:
        return "What was tried is not tried any more."
    if body.undo:
        return f"Back to what was in force before: {spelled(after.values) or 'all knobs as usual'}."
    return f"{'As recommended' if body.apply else 'Set by hand'}: {spelled(after.values)}."


async def _state(context: ApiContext, deployment: Deployment) -> TuningState:
    """What the tuner says, with what the store has later word of: a write is seen at once."""
    mode, status = deployment.spec.tuning.mode, deployment.status.tuning
    said = context.live_status.tuning(deployment.workspace, deployment.name, deployment.uid) or TuningState(
        workspace=deployment.workspace,
        deployment=deployment.name,
        mode=mode,
        state="off" if mode is TuningMode.OFF else "learning",
        reason="the tuner has not looked at it since the platform started",
    )
    changed: dict[str, Any] = {"mode": mode, "trial": status.trial, "asked": status.asked}
    changed |= {"recommended": status.recommended, "probation": status.probation, "off_until": status.off_until}
    if mode is TuningMode.OFF and said.mode is not mode:
        changed |= {"state": "off", "reason": "it was switched off"}
    elif said.state == "off" and mode is not TuningMode.OFF:
        changed |= {"state": "learning", "reason": "it was switched on just now"}
    artifact = context.snapshot.find("artifact", deployment.workspace, deployment.spec.template.artifact)
    if artifact is not None:
        service: ServiceSpec = artifact.spec.manifest.service
        objective = deployment.spec.objective or service.objective
        changed["knobs"] = board.knobs(service, deployment.spec.scaling, objective, status)
        changed["weights"] = objective.weights
    return said.model_copy(update=changed)
