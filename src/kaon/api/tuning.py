"""`/workspaces/{ws}/deployments/{name}/tuning`: the state of the tuner, and requests to it.

Requests are edits of the spec: of the mode, or of the commands that the tuner carries out. Answers show them as carried
out already.
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
from kaon.types.deployment import DeploymentSpec, with_commands
from kaon.types.etag import etag
from kaon.types.key import Right
from kaon.types.knobs import KnobValues, figure, spelled
from kaon.types.resource import Deployment
from kaon.types.service import ServiceSpec
from kaon.types.tuning import (
    MOST_COMMANDS,
    KnobState,
    TunerAction,
    TunerCommand,
    TuningMode,
    TuningRequest,
    TuningState,
    TuningStatus,
)

_MODES = {
    TuningMode.OFF: "The tuner is off.",
    TuningMode.RECOMMEND: "The tuner recommends and changes nothing.",
    TuningMode.AUTO: "The tuner tries what its twin predicts to be better, and keeps what proves better.",
}

router = AuthorizedRouter("/workspaces/{ws}/deployments", tag="deployments")


@router.get("/{deployment}/tuning", right=Right.READ)
async def get_tuning(
    ws: WorkspaceParam, name: DeploymentParam, response: Response, context: WithContext
) -> TuningState:
    """The state of the tuner: its knobs, its trial and recommendation, earlier trials, and the loss by the minute."""
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

    def changed(current: Deployment) -> DeploymentSpec:
        action, values = _action(current, body, context.clock.now())
        return _with_command(current, action, values, context.clock.now(), edit.caller.name)

    await edit.write_spec(changed, "Tuned", lambda spec: _message(body, spec.tuning.commands[-1]))
    return await _state(context, await deployment_of(context, edit.workspace, edit.name))


def _tag(deployment: Deployment) -> str:
    """The entity tag of the tuner's state: of what people decide by, not of what it measures meanwhile."""
    state = _status(deployment).model_dump_json(include={"values", "recommended", "trial", "asked"})
    digest = hashlib.sha256(f"{deployment.uid} {state}".encode()).hexdigest()
    return etag(digest[:16], deployment.generation)


def check_values(name: str, wanted: KnobValues, knobs: tuple[KnobState, ...]) -> None:
    """Raises `Unprocessable` with each unknown knob and each value out of range."""
    by_name = {knob.name: knob for knob in knobs}
    missing = f"no such knob; the knobs are: {', '.join(by_name) or 'none'}"
    wrong = {
        name_: missing if knob is None else f"must be {ranged(knob)}"
        for name_, value in wanted.items()
        if not _takes(knob := by_name.get(name_), value)
    }
    if wrong:
        raise Unprocessable(
            f"These values do not fit the knobs of '{name}'.",
            hint=f"See its knobs: kaon tune {name}",
            errors=[{"where": knob, "message": problem} for knob, problem in list(wrong.items())[:20]],
        )


def ranged(knob: KnobState) -> str:
    """The range of a knob."""
    unit = " s" if knob.name.endswith("_s") else ""
    return f"{figure(knob.low)} to {figure(knob.high)}{unit}{', whole numbers' if knob.whole else ''}"


def _takes(knob: KnobState | None, value: float) -> bool:
    return knob is not None and knob.low <= value <= knob.high and not (knob.whole and value != int(value))


def check_trial(deployment: Deployment, wanted: KnobValues, knobs: tuple[KnobState, ...]) -> None:
    """Raises `Unprocessable` for a trial that would never start: nothing is tuned, or the values are in force."""
    name = deployment.name
    if not any(knob.tuned for knob in knobs):
        typed = " ".join(f"--set {knob}={figure(value)}" for knob, value in wanted.items())
        raise Unprocessable(
            f"Nothing is tried for '{name}': {scaling.NOTHING}.",
            hint=f"Put it in force at once: kaon tune {name} {typed}",
        )
    if all(knob.value == wanted[knob.name] for knob in knobs if knob.name in wanted):
        raise Unprocessable(f"These values are in force for '{name}' already.", hint=f"See: kaon tune {name}")


def _status(deployment: Deployment) -> TuningStatus:
    """The tuner's part of the status, with all commands carried out."""
    return values_in_force.commanded(deployment.status.tuning, deployment.spec.tuning.commands)


def _action(current: Deployment, body: TuningRequest, now_s: float) -> tuple[TunerAction, KnobValues]:
    """What the tuner is to do. Raises `Unprocessable`, `Conflict`; pure."""
    name, status = current.name, _status(current)
    if body.apply:
        if status.recommended is None:
            raise Unprocessable(f"Nothing is recommended for '{name}'.", hint=f"See why: kaon tune {name}")
        return TunerAction.SET, status.recommended.values
    if body.undo:
        undo = values_in_force.undo(status)
        if undo is None:
            raise Unprocessable(
                f"There is nothing to undo: the knobs of '{name}' were never changed, and there is no trial.",
                hint=f"See: kaon tune {name}",
            )
        return undo
    if body.set is not None:
        return TunerAction.SET, body.set
    assert body.attempt is not None
    if current.spec.tuning.mode is TuningMode.OFF:
        raise Unprocessable(f"The tuner of '{name}' is off.", hint=f"Switch it on: kaon tune {name} --recommend")
    if status.trial is not None:
        raise Conflict(f"'{name}' has a trial already.", hint=f"Wait for its end, or end it: kaon tune {name} --undo")
    if now_s < status.off_until:
        raise Conflict(
            f"Trials of '{name}' are paused for another {lasting(status.off_until - now_s)}, after too many rollbacks.",
            hint=f"See them: kaon tune {name}; change a knob without a trial: kaon tune {name} --set KNOB=VALUE",
        )
    return TunerAction.TRY, body.attempt


def _with_command(
    current: Deployment, action: TunerAction, values: KnobValues, now_s: float, by: str
) -> DeploymentSpec:
    """The spec with one more command, without those that are carried out. Raises `Conflict` when too many are not."""
    status: TuningStatus = current.status.tuning
    waiting = values_in_force.pending(status, current.spec.tuning.commands)
    if len(waiting) >= MOST_COMMANDS:
        raise Conflict(
            f"The tuner of '{current.name}' has not carried out the last {MOST_COMMANDS} requests yet.",
            hint="Try again in a few seconds; if that does not help: kaon doctor",
        )
    last = max(status.command, *(command.id for command in waiting), 0)
    command = TunerCommand(id=last + 1, action=action, values=values, at=now_s, by=by)
    return with_commands(current.spec, (*waiting, command))


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


def _message(body: TuningRequest, command: TunerCommand) -> str:
    """The message of the event."""
    values = spelled(command.values)
    match command.action:
        case TunerAction.TRY:
            return f"To be tried: {values}."
        case TunerAction.END:
            return "The trial was ended."
        case TunerAction.RESTORE:
            return f"Back to the values before: {values or 'all knobs at their defaults'}."
        case _:
            return f"As recommended: {values}." if body.apply else f"Set by hand: {values}."


async def _state(context: ApiContext, deployment: Deployment) -> TuningState:
    """The tuner's own state, updated by newer parts of the store, so that a write is visible at once."""
    mode, status = deployment.spec.tuning.mode, _status(deployment)
    state = context.live_status.tuning(deployment.workspace, deployment.name, deployment.uid) or TuningState(
        workspace=deployment.workspace,
        deployment=deployment.name,
        mode=mode,
        state="off" if mode is TuningMode.OFF else "learning",
        reason="the tuner has not run since the platform started",
    )
    changed: dict[str, Any] = {"mode": mode, "trial": status.trial, "asked": status.asked}
    changed |= {"recommended": status.recommended, "probation": status.probation, "off_until": status.off_until}
    if mode is TuningMode.OFF and state.mode is not mode:
        changed |= {"state": "off", "reason": "it was switched off"}
    elif state.state == "off" and mode is not TuningMode.OFF:
        changed |= {"state": "learning", "reason": "it was switched on just now"}
    artifact = context.snapshot.find("artifact", deployment.workspace, deployment.spec.template.artifact)
    if artifact is not None:
        service: ServiceSpec = artifact.spec.manifest.service
        objective = deployment.spec.objective or service.objective
        changed["knobs"] = board.knobs(service, deployment.spec.scaling, objective, status)
        changed["weights"] = objective.weights
    return state.model_copy(update=changed)
