"""One change of one deployment: who requests it, what it is based on, and how it is written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends

from kaon.api import audit, edits
from kaon.api.authorizer import deployment_not_found
from kaon.api.checks import check_spec
from kaon.api.context import ApiContext, DeploymentParam, WithCaller, WithContext, WorkspaceParam
from kaon.api.keyring import Caller
from kaon.api.preconditions import Precondition, WithPrecondition, check_precondition
from kaon.api.view_of import view_of
from kaon.api.views import DeploymentView
from kaon.store.writes import UpdateSpec
from kaon.types.deployment import DeploymentSpec, Template
from kaon.types.resource import Deployment

ChangedSpec = Callable[[Deployment], DeploymentSpec]


@dataclass(frozen=True, slots=True)
class DeploymentEdit:
    """A request to change the deployment `workspace/name`."""

    context: ApiContext
    caller: Caller
    workspace: str
    name: str
    precondition: Precondition
    tag: Callable[[Deployment], str] | None = None
    """The entity tag that the precondition is about; None: that of the deployment itself."""

    async def current(self) -> Deployment:
        """The deployment as the store has it now. Raises `NotFound`, `ChangedSince` when the precondition fails."""
        found = await self.context.store.find("deployment", self.workspace, self.name)
        if found is None:
            raise deployment_not_found(self.workspace, self.name)
        place = "deployment", self.workspace, self.name
        await check_precondition(self.context, self.precondition, found, *place, tag=self.tag and self.tag(found))
        return found

    async def check(self, current: Deployment, spec: DeploymentSpec) -> None:
        """Raises what `check_spec` raises for the new spec; marks the artifacts that it names as used."""
        now = self.context.clock.now()
        await check_spec(self.context.store, self.caller, self.workspace, spec, current, now=now)

    async def write_spec(
        self,
        change: ChangedSpec,
        reason: str,
        message: str | Callable[[DeploymentSpec], str],
        check: Callable[[Deployment, DeploymentSpec], Awaitable[None]] | None = None,
    ) -> DeploymentView:
        """Write the changed spec, after `check`, with its event and audit record; repeated when another one wrote."""

        async def attempt() -> Deployment:
            current = await self.current()
            spec = change(current)
            if check is not None:
                await check(current, spec)
            text = message if isinstance(message, str) else message(spec)
            return await audit.write(self.context, self.caller, UpdateSpec(current, spec), reason, text)

        return view_of(await edits.retry_on_conflict(attempt), self.context.settings.url)

    async def set_spec(self, reason: str, message: str, **fields: object) -> DeploymentView:
        """Write the spec with some fields replaced."""
        return await self.write_spec(lambda d: d.spec.model_copy(update=fields), reason, message)


async def _edit(
    ws: WorkspaceParam, name: DeploymentParam, context: WithContext, caller: WithCaller, precondition: WithPrecondition
) -> DeploymentEdit:
    return DeploymentEdit(context, caller, ws, name, precondition)


WithEdit = Annotated[DeploymentEdit, Depends(_edit)]


def owned(spec: DeploymentSpec, caller: Caller) -> DeploymentSpec:
    """A spec that `caller` is responsible for: its key may call everything that the services use."""
    return spec.model_copy(update={"owner": caller.name, "owner_uid": caller.uid})


def with_template(spec: DeploymentSpec, template: Template) -> DeploymentSpec:
    """`spec` with another template. A promotion ends with its template, since a canary may try the same one again."""
    return spec.model_copy(update={"template": template, "promoted": None})


async def deployment_of(context: ApiContext, ws: str, name: str) -> Deployment:
    """The deployment with everything that this server has written. Raises `NotFound`."""
    await context.snapshot.at_least(context.store.written)
    found = context.snapshot.find("deployment", ws, name)
    if found is None:
        raise deployment_not_found(ws, name)
    return found
