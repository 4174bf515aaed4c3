"""`@kaon.job`: a function that runs to completion, once for each submission.

The function is unchanged: tests call it like any other, with `kaon.Dataset.local(...)` and `kaon.Output.local(...)`.
Its description is compiled where it is defined, so that mistakes are found at import. A method of a service is a job
too: the class is constructed with its settings, and the method is called.

Parameters of the type `kaon.Dataset` are inputs, those of the type `kaon.Output` outputs; all others are sent as JSON
and checked before the job is queued.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from pydantic import ValidationError

from kaon.errors import ConfigError
from kaon.sdk import hints
from kaon.sdk.codec import schema_of
from kaon.sdk.dataset import Dataset
from kaon.sdk.endpoint import out_of_bounds
from kaon.sdk.link import Reference
from kaon.sdk.openapi import with_default
from kaon.sdk.output import Output
from kaon.sdk.parameter import Parameter, compile_parameter
from kaon.sdk.request import Request
from kaon.sdk.response import Response
from kaon.sdk.service import JOB, default_name, used_names, valid_name
from kaon.sdk.signature import Signature, compile_call
from kaon.types.job import JobDeclaration
from kaon.types.service import Resources

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Job:
    """A marked function, compiled."""

    function: Callable[..., Any]
    declaration: JobDeclaration
    signature: Signature
    """Of its parameters that are neither datasets nor outputs, and of its result."""
    requirements: tuple[str, ...] = ()
    is_method: bool = False
    """Whether its first argument is an instance of its class."""

    @property
    def entry_class(self) -> str:
        """The class of a method; empty for a function."""
        return self.declaration.entry.partition(":")[2].rpartition(".")[0] if self.is_method else ""


@dataclass(frozen=True)
class _Parameters:
    plain: tuple[Parameter, ...]
    inputs: tuple[str, ...]
    optional_inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    references: tuple[Reference, ...]


@overload
def job(function: F, /) -> F: ...
@overload
def job(
    *,
    name: str | None = None,
    requirements: Sequence[str] = (),
    timeout_s: float = 3600.0,
    retries: int = 0,
    once: bool = False,
    resources: Resources | None = None,
    uses: Sequence[str | type] = (),
) -> Callable[[F], F]: ...
def job(
    function: F | None = None,
    /,
    *,
    name: str | None = None,
    requirements: Sequence[str] = (),
    timeout_s: float = 3600.0,
    retries: int = 0,
    once: bool = False,
    resources: Resources | None = None,
    uses: Sequence[str | type] = (),
) -> F | Callable[[F], F]:
    """Mark a function, sync or async, or a method of a service, as a job.

    Args:
        name: Its name; by default the function's own in kebab case.
        requirements: Packages that it needs, as pip writes them.
        timeout_s: Time limit of one run, without preparation.
        retries: How often a run that failed is repeated.
        once: Never start it a second time, even if it is unknown whether the first run did anything.
        resources: What one run may use.
        uses: The services that it calls, by the names of their deployments or by their classes; handles in its
            parameters' defaults are included.

    Raises ConfigError for an invalid function.
    """
    frame = inspect.currentframe()
    names = dict(frame.f_back.f_locals) if frame is not None and frame.f_back is not None else {}
    in_class = "__qualname__" in names and "__module__" in names

    def put(marked: F) -> F:
        if not inspect.isfunction(marked):
            raise ConfigError("`@kaon.job` is not on a function.", hint="Put it above `def`, below other decorators.")
        owner = marked.__qualname__.rpartition("<locals>.")[2]
        if inspect.isgeneratorfunction(marked) or inspect.isasyncgenfunction(marked):
            raise ConfigError(
                f"`{owner}` is a generator, which a job cannot be.",
                hint="Return the result, and report what happens before with kaon.progress(...).",
            )
        resolved = hints.resolved(marked, names)
        parameters = _parameters(owner, marked, resolved, skip=1 if in_class else 0)
        signature = compile_call(owner, parameters.plain, resolved.get("return", Any))
        if once and retries:
            raise ConfigError(
                f"`{owner}` has once=True and retries={retries}.", hint="Remove one of them: a retry is a second start."
            )
        try:
            declaration = JobDeclaration(
                name=valid_name(owner, default_name(marked.__name__) if name is None else name, "job"),
                entry=f"{marked.__module__}:{marked.__qualname__}",
                summary=inspect.cleandoc(marked.__doc__ or "").split("\n", 1)[0].strip(),
                parameters=_schema(signature),
                result=schema_of(signature.answer, "serialization"),
                inputs=parameters.inputs,
                optional_inputs=parameters.optional_inputs,
                outputs=parameters.outputs,
                timeout_s=timeout_s,
                retries=retries,
                once=once,
                resources=resources or Resources(),
                uses=used_names(owner, uses, parameters.references),
            )
        except ValidationError as error:
            raise out_of_bounds(owner, error) from None
        setattr(marked, JOB, Job(marked, declaration, signature, tuple(requirements), is_method=in_class))
        return marked

    return put if function is None else put(function)


def job_of(function: Any) -> Job:
    """The description of a marked function. Raises ConfigError for others."""
    found = getattr(function, JOB, None)
    if isinstance(found, Job):
        return found
    raise ConfigError(
        f"`{getattr(function, '__qualname__', function)}` is not a job.", hint="Put `@kaon.job` above the function."
    )


def _parameters(owner: str, function: Callable[..., Any], resolved: Mapping[str, Any], *, skip: int) -> _Parameters:
    plain: list[Parameter] = []
    inputs: list[str] = []
    optional: list[str] = []
    outputs: list[str] = []
    references: list[Reference] = []
    for p in list(inspect.signature(function).parameters.values())[skip:]:
        hint = resolved.get(p.name, Any)
        if isinstance(p.default, Reference):
            references.append(p.default)
        elif _is(hint, Dataset):
            _check_dataset(owner, p, hint)
            inputs.append(p.name)
            optional += [p.name] if p.default is None else []
        elif _is(hint, Output):
            _check_output(owner, p, hint)
            outputs.append(p.name)
        elif hints.bare(hint) in (Request, Response) or hints.is_websocket(hint):
            raise ConfigError(
                f"Parameter `{p.name}` of `{owner}` is {hints.spelled(hint)}, which only endpoints have.",
                hint="Remove it: nobody waits for a job on a connection.",
            )
        else:
            plain.append(compile_parameter(owner, p, hint, "body"))
    return _Parameters(tuple(plain), tuple(inputs), tuple(optional), tuple(outputs), tuple(references))


def _is(hint: Any, kind: type) -> bool:
    return any(hints.bare(arm) is kind for arm in hints.arms(hint))


def _check_dataset(owner: str, p: inspect.Parameter, hint: Any) -> None:
    optional = p.default is None and hints.may_be_none(hint)
    if len(hints.arms(hint)) > 1 + hints.may_be_none(hint) or (p.default is not p.empty and not optional):
        raise ConfigError(
            f"Parameter `{p.name}` of `{owner}` is {hints.spelled(hint)} with a default or other types.",
            hint=f"Write `{p.name}: kaon.Dataset` or `{p.name}: kaon.Dataset | None = None`.",
        )


def _check_output(owner: str, p: inspect.Parameter, hint: Any) -> None:
    if len(hints.arms(hint)) > 1 or p.default is not p.empty:
        raise ConfigError(
            f"Parameter `{p.name}` of `{owner}` is an output with a default or other types.",
            hint=f"Write `{p.name}: kaon.Output`.",
        )


def _schema(signature: Signature) -> dict[str, Any]:
    """The JSON schema of the parameters, with their defaults."""
    schema = schema_of(signature.body, "validation")
    properties = dict(schema.get("properties", {}))
    for parameter in signature.parameters:
        properties[parameter.name] = with_default(properties[parameter.name], parameter)
    return {**schema, "properties": properties, "title": signature.owner}
