"""Checks of a job before it is queued, each with what helps."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

import jsonschema_rs

from kaon.api import datasets_of_jobs
from kaon.api.checks import check_variables
from kaon.api.context import ApiContext
from kaon.api.job_rights import Submitter
from kaon.api.keyring import Caller
from kaon.api.problems import Unprocessable
from kaon.errors import Forbidden, InvalidInput, did_you_mean
from kaon.types.dataset import DatasetVersionRef
from kaon.types.job import ARRAY_MAX, PARAMETERS_MAX_BYTES, JobDeclaration, JobRequest, JobSpec
from kaon.types.key import IDENTITY_PREFIX, Right
from kaon.types.resource import Artifact
from kaon.types.service import Resources

_NAME_MAX = 40
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
_SUFFIX = 5
_PLACES_MAX = 20


def specs_of(
    context: ApiContext, caller: Caller, owner: Submitter, ws: str, request: JobRequest
) -> tuple[str, dict[str, JobSpec]]:
    """The name of the job or array, and the specs of its jobs by name.

    Raises `Unprocessable` for what is missing or wrong, `Forbidden` for what the caller may not use.
    """
    artifact = _artifact(context, owner, ws, request)
    declared = _declaration(artifact, request)
    name = request.name or made_name(declared.name if declared else request.command[0])
    check_variables(request)
    _check_secrets(context, owner, ws, request)
    _check_uses(caller, ws, declared)
    once = request.once if request.once is not None else bool(declared and declared.once)
    retries = request.retries if request.retries is not None else 0 if once or not declared else declared.retries
    if once and retries:
        raise Unprocessable(
            f"The job starts once only, and has {retries} retries.", hint="Leave out one of both: --once or --retries"
        )
    timeout_s = request.timeout_s or (declared.timeout_s if declared else JobSpec.model_fields["timeout_s"].default)
    spec = JobSpec(
        artifact=artifact.name,
        function=declared.name if declared else None,
        entry=declared.entry if declared else "",
        command=request.command,
        parameters=request.parameters,
        inputs=_inputs(context, ws, declared, request),
        outputs=_outputs(declared, request),
        env=request.env,
        secrets=request.secrets,
        resources=request.resources or (declared.resources if declared else Resources()),
        timeout_s=timeout_s,
        retries=retries,
        once=once,
        priority=request.priority,
        labels=request.labels,
        uses=declared.uses if declared else (),
        submits=caller.rights.deployments is None and len(artifact.spec.manifest.jobs) > 1,
        owner=owner.owner,
        owner_uid=owner.owner_uid,
    )
    if not request.map:
        if request.parallel is not None:
            raise Unprocessable("Only an array has parallel jobs.", hint="Make one: --map PARAMETER=0..99")
        check_parameters(declared, spec.parameters)
        return name, {name: spec}
    return name, _array(name, spec, declared, request)


def made_name(function: str) -> str:
    """A name for a job that has none: that of its function, and a random end."""
    stem = "".join(c if c.isascii() and (c.isalnum() or c == "-") else "-" for c in function.lower()).strip("-")
    stem = stem[: _NAME_MAX - _SUFFIX - 6].strip("-")  # an array adds numbers
    end = "".join(secrets.choice(_ALPHABET) for _ in range(_SUFFIX))
    return f"{stem}-{end}" if stem[:1].isalpha() else f"job-{end}"


def check_parameters(declared: JobDeclaration | None, parameters: Mapping[str, Any]) -> None:
    """Raises `Unprocessable` for parameters that the declaration's schema refuses, with suggestions."""
    if len(json.dumps(parameters, ensure_ascii=False).encode()) > PARAMETERS_MAX_BYTES:
        raise Unprocessable(
            f"The parameters have more than {PARAMETERS_MAX_BYTES:,} bytes as JSON.",
            hint="Put large data into a dataset: kaon dataset push NAME FOLDER",
        )
    if declared is None:
        if parameters:
            raise Unprocessable("A command has no parameters.", hint="Write them into the command, or use --env.")
        return
    properties = declared.parameters.get("properties", {})
    names = [*properties, *declared.inputs, *declared.outputs]
    errors = [
        {"where": name, "message": f"unknown. {did_you_mean(name, names)}".strip()}
        for name in parameters
        if name not in properties
    ]
    errors += [
        {"where": name, "message": "missing"}
        for name in declared.parameters.get("required", ())
        if name not in parameters
    ]
    if not errors:
        errors = _schema_errors(declared.parameters, parameters)
    if errors:
        places = "; ".join(f"{each['where']}: {each['message']}" for each in errors[:3])
        raise Unprocessable(
            f"The parameters of job '{declared.name}' are wrong: {places}",
            hint=f"It takes: {', '.join(names) or 'nothing'}.",
            errors=errors[:_PLACES_MAX],
        )


def _schema_errors(schema: Mapping[str, Any], parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Where and why values do not match, without the values."""
    linear = jsonschema_rs.RegexOptions()  # no pattern of a user can take exponential time
    try:
        validator = jsonschema_rs.Draft202012Validator(dict(schema), mask="the value", pattern_options=linear)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError):
        return []  # such as a pattern with a look-ahead: the job checks its parameters itself
    found = []
    for error in validator.iter_errors(dict(parameters)):
        where = ".".join(str(part) for part in error.instance_path)
        found.append({"where": where[:200] or "parameters", "message": str(error.message)[:200]})
        if len(found) == _PLACES_MAX:
            break
    return found


def _artifact(context: ApiContext, owner: Submitter, ws: str, request: JobRequest) -> Artifact:
    digest = request.artifact or owner.artifact
    if digest is None:
        raise Unprocessable("The job names no artifact.", hint="Build and submit one: kaon job run FILE.py:FUNCTION")
    if owner.artifact is not None and digest != owner.artifact:
        raise Forbidden("The key of a service submits jobs of its own artifact only.", hint="Use a key of your own.")
    artifact = context.snapshot.find("artifact", ws, digest)
    if artifact is None:
        raise Unprocessable(
            f"There is no artifact {digest} in workspace '{ws}'.",
            hint="Build and submit it: kaon job run FILE.py:FUNCTION",
        )
    return artifact


def _declaration(artifact: Artifact, request: JobRequest) -> JobDeclaration | None:
    jobs = {job.name: job for job in artifact.spec.manifest.jobs}
    if request.command:
        if request.function is not None:
            raise Unprocessable("Both a function and a command are given.", hint="Leave out one of them.")
        return None
    if request.function is None and len(jobs) == 1:
        return next(iter(jobs.values()))
    if request.function in jobs:
        return jobs[request.function]
    listed = ", ".join(jobs) or "none"
    if request.function is None:
        raise Unprocessable("The job names no function.", hint=f"Jobs of this artifact: {listed}.")
    raise Unprocessable(
        f"The artifact has no job '{request.function}'.",
        hint=f"{did_you_mean(request.function, jobs)}Jobs of this artifact: {listed}.",
    )


def _check_secrets(context: ApiContext, owner: Submitter, ws: str, request: JobRequest) -> None:
    for secret in sorted(set(request.secrets.values())):
        if secret.startswith(IDENTITY_PREFIX):
            raise Unprocessable(f"The secret '{secret}' belongs to the platform.", hint="Use a secret of your own.")
        if owner.secrets is not None and secret not in owner.secrets:
            raise Forbidden(
                f"The service or job of this key does not have the secret '{secret}', and cannot pass it on.",
                hint=f"Deploy it with that secret: kaon deploy ... --secret NAME={secret}",
            )
        if context.snapshot.find("secret", ws, secret) is None:
            raise Unprocessable(f"There is no secret '{secret}' in workspace '{ws}'.", hint=f"kaon secret set {secret}")


def _check_uses(caller: Caller, ws: str, declared: JobDeclaration | None) -> None:
    """A key may submit only code that calls what the key itself may call."""
    for name in declared.uses if declared else ():
        if not caller.rights.may(Right.CALL, ws, name):
            raise Forbidden(
                f"The job '{declared.name if declared else ''}' uses '{name}', which this key may not call.",
                hint="Submit it with a key that may call it.",
            )


def _inputs(
    context: ApiContext, ws: str, declared: JobDeclaration | None, request: JobRequest
) -> dict[str, DatasetVersionRef]:
    wanted = declared.inputs if declared else ()
    _check_names("input", request.inputs, wanted)
    needed = [name for name in wanted if name not in (declared.optional_inputs if declared else ())]
    if missing := [name for name in needed if name not in request.inputs]:
        raise Unprocessable(
            f"The input '{missing[0]}' is missing: the version of a dataset that the job reads.",
            hint=f"Give it: {missing[0]}=DATASET@latest. List them: kaon dataset ls",
        )
    return {name: datasets_of_jobs.version_of(context, ws, ref) for name, ref in request.inputs.items()}


def _outputs(declared: JobDeclaration | None, request: JobRequest) -> dict[str, str]:
    wanted = declared.outputs if declared else ()
    _check_names("output", request.outputs, wanted)
    if missing := [name for name in wanted if name not in request.outputs]:
        raise Unprocessable(
            f"The output '{missing[0]}' is missing: the dataset that gets a version with what the job writes.",
            hint=f"Give it: {missing[0]}=DATASET",
        )
    names = list(request.outputs.values())
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise Unprocessable(f"Two outputs go to the dataset '{twice}'.", hint="Give each output a dataset of its own.")
    return dict(request.outputs)


def _check_names(what: str, given: Iterable[str], wanted: tuple[str, ...]) -> None:
    if unknown := sorted(set(given) - set(wanted)):
        listed = ", ".join(wanted) or "none"
        raise Unprocessable(
            f"The job has no {what} '{unknown[0]}'.", hint=f"{did_you_mean(unknown[0], wanted)}It has: {listed}."
        )


def _array(name: str, spec: JobSpec, declared: JobDeclaration | None, request: JobRequest) -> dict[str, JobSpec]:
    [(parameter, values)] = request.map.items()
    if not values or len(values) > ARRAY_MAX:
        raise Unprocessable(f"An array has 1 to {ARRAY_MAX:,} jobs; these are {len(values):,}.")
    if parameter in spec.parameters:
        raise Unprocessable(f"The parameter '{parameter}' is both fixed and mapped.", hint="Leave out one of them.")
    if len(name) + len(str(len(values) - 1)) + 1 > _NAME_MAX:
        raise InvalidInput(f"The name '{name}' is too long for an array of {len(values)} jobs.", hint="Shorten it.")
    width = len(str(len(values) - 1))
    jobs = {}
    for number, value in enumerate(values):
        parameters = {**spec.parameters, parameter: value}
        check_parameters(declared, parameters)
        changed = {"parameters": parameters, "array": name, "parallel": request.parallel}
        jobs[f"{name}-{number:0{width}}"] = spec.model_copy(update=changed)
    return jobs
