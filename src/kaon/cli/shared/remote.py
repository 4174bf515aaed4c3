"""The platform's routes as methods, in one workspace; answers as types."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel

from kaon.api.views import (
    ArtifactView,
    AuditPage,
    CloudView,
    DatasetDifference,
    DatasetVersionView,
    DatasetView,
    Decisions,
    DeploymentView,
    FilesVerified,
    KeyMade,
    KeyRequest,
    KeyView,
    PlatformHealth,
    ReplicaView,
    RevisionState,
    SecretView,
    UndoRequest,
    Whoami,
    WorkspaceRequest,
    WorkspaceView,
)
from kaon.cli.shared.notes import note
from kaon.cli.shared.text import plain
from kaon.client import contexts
from kaon.client.events import ServerEvent
from kaon.client.platform import PlatformClient
from kaon.client.watch import ResourceChange
from kaon.datasets.remote import DatasetPush, VersionFiles
from kaon.drivers.port import LogLine
from kaon.errors import Conflict, InvalidInput, KaonError, NotFound, did_you_mean
from kaon.laws.datasets import reference
from kaon.settings import Settings
from kaon.types.advice import Advised
from kaon.types.audit import AuditRecord
from kaon.types.dataset import DatasetManifest
from kaon.types.deployment import DeploymentSpec, Scaling, Shadow
from kaon.types.etag import etag
from kaon.types.event import Event
from kaon.types.garbage import Collected
from kaon.types.job import JobMetrics, JobNames, JobRequest, JobResult
from kaon.types.kind import Kind
from kaon.types.kinds import KINDS
from kaon.types.replica import ReplicaStatus
from kaon.types.shadow import ShadowReport
from kaon.types.tuning import TuningRequest, TuningState
from kaon.types.window import Stats
from kaon.types.workspace import DEFAULT_WORKSPACE

_VERIFY_S = 600.0

_CHECK_S, _CHECKED_BYTES_PER_S = 60.0, 20 * 10**6
"""How long the platform may take to check an upload, and how fast it is at least."""


class Remote:
    """One workspace of a platform."""

    def __init__(self, platform: PlatformClient, workspace: str) -> None:
        self._platform = platform
        self.workspace = workspace
        self._requested: tuple[Kind, str] | None = None
        """The resource of the last request, for a suggestion when it does not exist."""

    def _at(self, *parts: str) -> str:
        for part in parts:
            if not part or "/" in part:  # it would be the path of another resource
                raise InvalidInput(f"'{plain(part)}' is not a name.", hint="List the deployments: kaon ps")
        if len(parts) > 1 and parts[0] == "deployments":
            self._requested = KINDS["deployment"], parts[1]
        return "/".join(["/workspaces", quote(self.workspace, safe=""), *(quote(part, safe=":") for part in parts)])

    def suggestion(self) -> str:
        """A name near to that of the last requested resource; empty without one."""
        if self._requested is None:
            return ""
        kind, name = self._requested
        try:
            return did_you_mean(name, [str(view.name) for view in self.resources(kind)])
        except KaonError:
            return ""

    def health(self) -> PlatformHealth:
        """The API's state and version."""
        return self._platform.read(PlatformHealth, "/health")

    def whoami(self) -> Whoami:
        """The rights of the key."""
        return self._platform.read(Whoami, "/whoami")

    def resources(self, kind: Kind, /, most: int | None = None, **query: str | int | None) -> list[Any]:
        """The resources of a kind, in order; at most `most`."""
        return self._platform.resources(kind, self.workspace, most, **query)

    def resource(self, kind: Kind, name: str) -> Any:
        """One resource."""
        self._requested = kind, name
        return self.artifact(name) if kind.name == "artifact" else self._platform.resource(kind, self.workspace, name)

    def watch(self, kind: Kind, /, **query: str | int | None) -> Iterator[ResourceChange]:
        """The resources of a kind, then each change as it comes."""
        return self._platform.watch(kind, self.workspace, **query)

    def put_resource(self, kind: Kind, name: str, spec: BaseModel, version: int | None = None) -> Any:
        """Create a resource, or replace its spec; only when it still has `version`, if given."""
        return self._platform.put_resource(kind, self.workspace, name, spec, version=version)

    def delete_resource(self, kind: Kind, name: str) -> None:
        """Delete a resource."""
        self._platform.delete_resource(kind, self.workspace, name)

    def deployments(self) -> list[DeploymentView]:
        """All deployments."""
        return self._platform.items(DeploymentView, self._at("deployments"))

    def deployment(self, name: str) -> DeploymentView:
        """One deployment."""
        return self._platform.read(DeploymentView, self._at("deployments", name))

    def find_deployment(self, name: str) -> DeploymentView | None:
        """One deployment; None when it does not exist."""
        try:
            return self.deployment(name)
        except NotFound:
            if not any(workspace.name == self.workspace for workspace in self.workspaces()):
                raise
            return None

    def put_deployment(self, name: str, spec: DeploymentSpec, current: DeploymentView | None) -> DeploymentView:
        """Create a deployment, or replace the spec of `current`. Raises `Conflict` when it changed meanwhile."""
        body = spec.model_copy(update={"owner": "", "owner_uid": ""})
        path, headers = self._at("deployments", name), _based_on(current)
        return self._platform.write("PUT", path, body, headers=headers, answer=DeploymentView)

    def delete_deployment(self, name: str, current: DeploymentView | None) -> None:
        """Delete a deployment; None: one that cannot be read. Raises `Conflict` when `current` changed meanwhile."""
        headers = _based_on(current) if current else None
        self._platform.act("DELETE", self._at("deployments", name), headers=headers)

    def scale(self, current: DeploymentView, scaling: Scaling) -> DeploymentView:
        """Set the bounds of a deployment's replicas. Raises `Conflict` when `current` changed meanwhile."""
        return self._change(current, "scale", scaling)

    def roll(self, current: DeploymentView, verb: str) -> DeploymentView:
        """Restart, pause, resume, promote or adopt a deployment. Raises `Conflict` when `current` changed meanwhile."""
        return self._change(current, verb)

    def undo(self, current: DeploymentView, revision: int | None) -> DeploymentView:
        """Roll back to a revision. Raises `Conflict` when `current` changed meanwhile."""
        return self._change(current, "undo", UndoRequest(revision=revision))

    def shadow(self, current: DeploymentView, shadow: Shadow) -> DeploymentView:
        """Send copies of calls to a revision. Raises `Conflict` when `current` changed meanwhile."""
        return self._change(current, "shadow", shadow, method="PUT")

    def unshadow(self, current: DeploymentView) -> None:
        """Send no copies of calls any more. Raises `Conflict` when `current` changed meanwhile."""
        self._platform.act("DELETE", self._at("deployments", current.name, "shadow"), headers=_based_on(current))

    def _change(
        self, current: DeploymentView, verb: str, body: BaseModel | None = None, *, method: str = "POST"
    ) -> DeploymentView:
        path, headers = self._at("deployments", current.name, verb), _based_on(current)
        return self._platform.write(method, path, body, headers=headers, answer=DeploymentView)

    def shadow_report(self, name: str) -> ShadowReport:
        """How the shadow's answers compare."""
        return self._platform.read(ShadowReport, self._at("deployments", name, "shadow"))

    def revisions(self, name: str) -> list[RevisionState]:
        """A deployment's history, oldest first."""
        return self._platform.items(RevisionState, self._at("deployments", name, "revisions"))

    def replicas(self, name: str | None = None) -> Sequence[ReplicaStatus]:
        """The replicas of a deployment, or of all."""
        path = self._at("deployments", name, "replicas") if name else self._at("replicas")
        return self._platform.items(ReplicaView, path)

    def logs(self, name: str, **query: Any) -> Iterator[LogLine]:
        """Log lines of the replicas."""
        return self._platform.lines(LogLine, self._at("deployments", name, "logs"), **query)

    def submit_job(self, request: JobRequest) -> JobNames:
        """Queue a job or an array."""
        return self._platform.write("POST", self._at("jobs"), request, answer=JobNames)

    def change_job(self, name: str, change: str) -> JobNames:
        """`cancel` or `retry` a job, or the jobs of an array."""
        return self._platform.write("POST", self._at("jobs", name, change), answer=JobNames)

    def job_result(self, name: str) -> JobResult | None:
        """What a job returned; None: it has not succeeded."""
        try:
            return self._platform.read(JobResult, self._at("jobs", name, "result"))
        except Conflict:
            return None

    def job_metrics(self, name: str) -> JobMetrics:
        """The metrics of a job's newest attempt."""
        return self._platform.read(JobMetrics, self._at("jobs", name, "metrics"))

    def job_events(self, name: str) -> Iterator[ServerEvent]:
        """The views, progress and metrics of a job as they come, until it has ended."""
        self._requested = KINDS["job"], name
        return self._platform.events_of(self._at("jobs", name, "progress"))

    def job_logs(self, name: str, **query: Any) -> Iterator[LogLine]:
        """Log lines of an attempt."""
        self._requested = KINDS["job"], name
        return self._platform.lines(LogLine, self._at("jobs", name, "logs"), **query)

    def events(self, kind: str | None = None, name: str | None = None, limit: int = 100) -> list[Event]:
        """Events, oldest first."""
        return self._platform.items(Event, self._at("events"), kind=kind, name=name, limit=limit)

    def audit(self, *, everywhere: bool = False, **query: str | int | float) -> list[AuditRecord]:
        """Who changed what, newest first."""
        path = "/audit" if everywhere else self._at("audit")
        return self._platform.read(AuditPage, path, **query).items

    def stats(self, name: str, span_s: float) -> Stats:
        """A deployment's figures, with a series of the last `span_s` seconds."""
        return self._platform.read(Stats, self._at("deployments", name, "stats"), span_s=span_s)

    def decisions(
        self,
        name: str,
        since_s: float | None = None,
        limit: int = 20,
        *,
        concern: str | None = None,
        lists: bool = True,
    ) -> Decisions:
        """Decisions on a deployment, and its law's current output; without `lists`, no figures that are lists."""
        query = {"since_s": since_s, "limit": limit, "concern": concern, "lists": lists}
        return self._platform.read(Decisions, self._at("deployments", name, "decisions"), **query)

    def tuning(self, name: str) -> TuningState:
        """The state of a deployment's tuner."""
        return self._platform.read(TuningState, self._at("deployments", name, "tuning"))

    def tune(self, name: str, request: TuningRequest) -> tuple[TuningState, TuningState]:
        """Change the tuner; its state before and after. Raises `Conflict` when it changed meanwhile."""
        path = self._at("deployments", name, "tuning")
        before, tag = self._platform.read_tagged(TuningState, path)
        headers = {"if-match": tag} if tag else {}
        return before, self._platform.write("POST", path, request, headers=headers, answer=TuningState)

    def advice(self, name: str = "") -> Advised:
        """Advice on a deployment, or on all."""
        path = self._at("deployments", name, "advice") if name else self._at("advice")
        return self._platform.read(Advised, path)

    def artifacts(self) -> list[ArtifactView]:
        """All artifacts, without their files."""
        return self._platform.items(ArtifactView, self._at("artifacts"))

    def artifact(self, digest: str) -> ArtifactView:
        """One artifact; the first digits of its digest are enough."""
        if not digest.startswith("sha256:") or len(digest) < 71:
            start = digest if digest.startswith("sha256:") else f"sha256:{digest}"
            found = [a.name for a in self.artifacts() if a.name.startswith(start)]
            if len(found) > 1:
                raise InvalidInput(f"{len(found)} artifacts begin with '{start}'.", hint="Give more digits.")
            digest = found[0] if found else start
        return self._platform.read(ArtifactView, self._at("artifacts", digest))

    def delete_artifact(self, digest: str) -> None:
        """Delete an artifact that no deployment uses."""
        self._platform.act("DELETE", self._at("artifacts", digest))

    def upload(self, file: Path, digest: str, on_sent: Callable[[int], None]) -> ArtifactView:
        """Upload an artifact, unless the workspace has it; `on_sent` gets the number of bytes sent so far."""
        try:
            return self._keep_upload(file, digest)
        except NotFound:
            self._platform.upload(self._at("uploads"), file, digest, on_sent)
            return self._keep_upload(file, digest)

    def _keep_upload(self, file: Path, digest: str) -> ArtifactView:
        """Make an artifact of what was uploaded; the platform reads all of its bytes."""
        timeout_s = _CHECK_S + file.stat().st_size / _CHECKED_BYTES_PER_S
        return self._platform.write("PUT", self._at("artifacts", digest), answer=ArtifactView, timeout_s=timeout_s)

    def dataset(self, name: str) -> DatasetView:
        """One dataset."""
        self._requested = KINDS["dataset"], name
        return self._platform.read(DatasetView, self._at("datasets", name))

    def dataset_version(self, text: str) -> DatasetVersionView:
        """The version that a reference means now, like 'purchases@3', 'purchases@prod' or 'purchases'."""
        wanted = reference(text)
        self._requested = KINDS["dataset"], wanted.dataset
        return self._platform.read(
            DatasetVersionView, self._at("datasets", wanted.dataset, "versions", str(wanted.version))
        )

    def dataset_manifest(self, version: str) -> DatasetManifest:
        """The files of a version, like 'purchases@3'."""
        data = b"".join(self._platform.chunks(self._at("dataset-versions", version, "manifest")))
        return DatasetManifest.model_validate_json(data)

    def dataset_files(self, version: str) -> VersionFiles:
        """The bytes of a version's files."""
        return VersionFiles(self._platform, self._at("dataset-versions", version, "files"))

    def dataset_difference(self, version: str, base: str) -> DatasetDifference:
        """What a version has that another one has not."""
        return self._platform.read(DatasetDifference, self._at("dataset-versions", version, "difference"), base=base)

    def verify_dataset(self, version: str, first: int, count: int) -> FilesVerified:
        """Compare stored files of a version with their digests."""
        query = {"first": first, "count": count}
        path = self._at("dataset-versions", version, "verify")
        return self._platform.write("POST", path, query=query, timeout_s=_VERIFY_S, answer=FilesVerified)

    def push_of(self, name: str) -> DatasetPush:
        """A push to a dataset."""
        return DatasetPush(self._platform, self._at("datasets", name), self._at("uploads"))

    def set_label(self, name: str, label: str, number: int) -> DatasetView:
        """Set a label, or move it."""
        path = self._at("datasets", name, "labels", label)
        return self._platform.write("PUT", path, {"number": number}, answer=DatasetView)

    def remove_label(self, name: str, label: str) -> DatasetView:
        """Remove a label."""
        return self._platform.write("DELETE", self._at("datasets", name, "labels", label), answer=DatasetView)

    def keys(self) -> list[KeyView]:
        """All keys, without the keys themselves."""
        return self._platform.items(KeyView, self._at("keys"))

    def create_key(self, request: KeyRequest) -> KeyMade:
        """Create a key."""
        return self._platform.write("POST", self._at("keys"), request, answer=KeyMade)

    def revoke_key(self, name: str, *, with_deployments: bool = False) -> None:
        """Revoke a key, and delete the deployments that it owns if requested."""
        query = {"with_deployments": True} if with_deployments else None
        self._platform.act("DELETE", self._at("keys", name), query=query)

    def secrets(self) -> list[SecretView]:
        """All secrets, without their values."""
        return self._platform.items(SecretView, self._at("secrets"))

    def put_secret(self, name: str, value: str) -> SecretView:
        """Set a secret."""
        return self._platform.write("PUT", self._at("secrets", name), {"value": value}, answer=SecretView)

    def delete_secret(self, name: str) -> None:
        """Delete a secret."""
        self._platform.act("DELETE", self._at("secrets", name))

    def workspaces(self) -> list[WorkspaceView]:
        """The workspaces of the key."""
        return self._platform.items(WorkspaceView, "/workspaces")

    def create_workspace(self, request: WorkspaceRequest) -> WorkspaceView:
        """Create a workspace."""
        return self._platform.write("POST", "/workspaces", request, answer=WorkspaceView)

    def delete_workspace(self, name: str) -> None:
        """Delete an empty workspace."""
        self._platform.act("DELETE", f"/workspaces/{quote(name, safe='')}")

    def garbage(self) -> Collected:
        """What nothing refers to any more."""
        return self._platform.read(Collected, "/gc")

    def collect_garbage(self) -> Collected:
        """Delete a part of it."""
        return self._platform.write("POST", "/gc", answer=Collected)

    def clouds(self) -> list[CloudView]:
        """All clouds."""
        return self._platform.items(CloudView, "/clouds")

    def set_cordoned(self, name: str, cordoned: bool) -> CloudView:
        """Stop or resume placing deployments in a cloud."""
        verb = "cordon" if cordoned else "uncordon"
        return self._platform.write("POST", f"/clouds/{quote(name, safe='')}/{verb}", answer=CloudView)

    def delete_cloud(self, name: str) -> None:
        """Delete a cloud that is lost."""
        self._platform.act("DELETE", f"/clouds/{quote(name, safe='')}")


def _based_on(current: DeploymentView | None) -> dict[str, str]:
    """The precondition of a change: the deployment is still `current`; None: it does not exist."""
    return {"if-none-match": "*"} if current is None else {"if-match": etag(current.uid, current.generation)}


@contextmanager
def opened(workspace: str | None = None) -> Iterator[Remote]:
    """The platform of the context in use, in `workspace`, or the context's, or that of its key."""
    context = contexts.in_use()
    key = contexts.key_of(context)
    platform = PlatformClient(key, url=context.url, socket=Settings().api_socket)
    platform.on_unreadable = _note_unreadable
    remote = Remote(platform, workspace or context.workspace)
    try:
        if workspace is None and context.workspace == DEFAULT_WORKSPACE and not contexts.has_admin_key(context):
            remote.workspace = remote.whoami().workspace or context.workspace
        yield remote
    except NotFound as error:
        error.hint = f"{remote.suggestion()}{error.hint}"
        raise
    finally:
        platform.close()


def _note_unreadable(row: Mapping[str, Any]) -> None:
    kind, name, reason, hint = (str(row.get(part, "")) for part in ("kind", "name", "reason", "hint"))
    note(plain(f"{kind} {name} is stored in a form that cannot be read: {reason}. {hint}"))
