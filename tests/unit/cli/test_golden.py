"""Help of every command, and every table and page from recorded things, as golden files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from tests.statuses import status_with

from kaon.api.views import (
    ArtifactView,
    CloudView,
    Decisions,
    DeploymentView,
    KeyView,
    RevisionState,
    SecretView,
    WorkspaceView,
)
from kaon.build.build import Built
from kaon.cli import app, explain
from kaon.cli.deploy.result import how_to_call
from kaon.cli.deploy.spec import DeployOptions, merged
from kaon.cli.describe import deployment_page
from kaon.cli.shared import spec_changes, tables
from kaon.cli.shared.notes import failure
from kaon.cli.shared.output import Format, TableShape, table_text
from kaon.cli.shared.replica_bounds import ReplicaBounds
from kaon.cli.shared.rollout_wait import current_step
from kaon.errors import NotFound, Unavailable
from kaon.types.artifact import ArtifactSpec, ArtifactStatus, Manifest
from kaon.types.condition import Condition
from kaon.types.deployment import (
    Assignment,
    DeploymentSpec,
    RevisionSpec,
    RolloutState,
    Scaling,
    ScalingStatus,
    Template,
)
from kaon.types.event import Event, EventLevel
from kaon.types.journal import JournalEntry
from kaon.types.key import Role
from kaon.types.objective import Objective
from kaon.types.place import Capacity, PlaceHealth, PlaceState
from kaon.types.plan import EdgeStatus
from kaon.types.replica import Phase, ReplicaStatus
from kaon.types.service import ServiceSpec
from kaon.types.tuning import Reach, Recommendation, TrialStatus, TuningMode, TuningSpec, TuningStatus
from kaon.types.workspace import WorkspaceSpec, WorkspaceStatus

Golden = Callable[[str, str], None]
NOW = 1_700_000_000.0
EVIL = "evil\x1b]0;owned\x07\u202e"
DIGEST = "sha256:" + "ab" * 32
ENVELOPE = {"workspace": "default", "uid": "u1", "version": 7, "generation": 2}
TIMES = {"created_at": NOW - 7200, "updated_at": NOW - 60}
TEMPLATE = Template(artifact=DIGEST, env={"GREETING": "Hi"}, secrets={"TOKEN": "greeter-token"})

DEPLOYMENT = DeploymentView(
    **ENVELOPE,
    **TIMES,
    kind="deployment",
    name="greeter",
    spec=DeploymentSpec(template=TEMPLATE, scaling=Scaling(min=2, max=4)),
    status=status_with(
        observed_generation=2,
        state=RolloutState.STOPPED,
        stable=1,
        target=2,
        scaling=ScalingStatus(wanted=2, reason="12.0 calls/s at 40.0 ms each"),
        assignments=(Assignment(revision=1, replicas=2, ready=2, weight=100),),
        conditions=(Condition(type="Ready", holds=True), Condition(type="Progressing", holds=False, reason="Stopped")),
    ),
    url="http://127.0.0.1:8080/greeter",
    state=RolloutState.STOPPED,
    reason=f"greeter-2-0 crashed: {EVIL}",
    ready=2,
    replicas=2,
    revision=1,
)
TRIAL = TrialStatus(reach=Reach.REPLICA, after={"max_batch": 16}, since=NOW, until=NOW + 9)
BETTER = Recommendation(values={"max_batch": 16}, gain=0.06, least=0.02, at=NOW)
REPLICAS = [
    ReplicaStatus(
        id="0" * 12,
        name="greeter-1-0",
        workspace="default",
        deployment="greeter",
        revision=1,
        phase=Phase.READY,
        since=NOW - 3600,
    ),
    ReplicaStatus(
        id="1" * 12,
        name="greeter-2-0",
        workspace="default",
        deployment="greeter",
        revision=2,
        phase=Phase.CRASHED,
        reason=EVIL,
        since=NOW - 5,
        restarts=3,
        exit_code=1,
        last_lines=("Traceback", f"ValueError: {EVIL}"),
    ),
]
REVISIONS = [
    RevisionState(
        number=number,
        created_at=NOW - 7200 + 60 * number,
        artifact=DIGEST,
        state=state,
        replicas=ready,
        ready=ready,
        spec=RevisionSpec(deployment="greeter", number=number, template=TEMPLATE, template_hash="0" * 16),
    )
    for number, state, ready in ((1, "serving", 2), (2, "failed", 0))
]
EVENTS = [
    Event(at=NOW - 90, workspace="default", kind="deployment", name="greeter", reason="Deployed", message="By admin."),
    Event(
        at=NOW - 5,
        workspace="default",
        kind="replica",
        name="greeter-2-0",
        level=EventLevel.WARNING,
        reason="Crashed",
        message=EVIL,
    ),
]
SERVICE = ServiceSpec(
    name="greeter",
    entry="greeter:Greeter",
    openapi={"paths": {"/greet": {"post": {"x-codeSamples": [{"label": "curl", "source": 'curl "$KAON_URL/greet"'}]}}}},
)
MANIFEST = Manifest(kaon="0.1.0", python="3.11", service=SERVICE, files=())

THINGS: dict[str, tuple[list[Any], TableShape[Any]]] = {
    "deployments": ([DEPLOYMENT], tables.of("deployment", NOW)),
    "replicas": (REPLICAS, tables.of("replica", NOW)),
    "revisions": (REVISIONS, tables.revisions(NOW)),
    "events": (EVENTS, tables.of("event", NOW)),
    "artifacts": (
        [
            ArtifactView(
                **ENVELOPE,
                **TIMES,
                kind="artifact",
                name=DIGEST,
                spec=ArtifactSpec(digest=DIGEST, size_bytes=1_234_567, manifest=MANIFEST),
                status=ArtifactStatus(),
            )
        ],
        tables.of("artifact", NOW),
    ),
    "keys": (
        [
            KeyView(
                name="web",
                workspace="default",
                hint="kaon_abcd",
                role=Role.CALLER,
                deployments=("greeter",),
                owner="admin",
                created_at=NOW - 86_400 * 3,
                expires_at=NOW + 86_400,
                state="active",
            ),
            KeyView(name="ci", workspace=None, hint="kaon_efgh", role=Role.ADMIN, created_at=NOW - 9, state="revoked"),
        ],
        tables.of("key", NOW),
    ),
    "secrets": (
        [
            SecretView(
                name="token",
                workspace="default",
                version=3,
                created_at=NOW - 7200,
                updated_at=NOW - 60,
                used_by=["greeter", "other"],
            )
        ],
        tables.of("secret", NOW),
    ),
    "workspaces": (
        [
            WorkspaceView(
                **(ENVELOPE | {"workspace": ""}),
                **TIMES,
                kind="workspace",
                name="team-a",
                spec=WorkspaceSpec(description=f"客户 {EVIL}"),
                status=WorkspaceStatus(),
            ),
            WorkspaceView(
                **(ENVELOPE | {"workspace": ""}),
                **TIMES,
                kind="workspace",
                name="default",
                spec=WorkspaceSpec(),
                status=WorkspaceStatus(),
            ),
        ],
        tables.of("workspace", NOW),
    ),
    "clouds": (
        [
            CloudView(
                name="local",
                driver="process",
                edge_url="http://127.0.0.1:8080",
                seen_at=NOW - 2,
                connected=True,
                edge=EdgeStatus(running=True),
                place=PlaceHealth(
                    used=Capacity(cpus=1.5, memory_bytes=320 * 2**20), free=Capacity(cpus=30.5, memory_bytes=15 * 2**30)
                ),
                replicas=3,
                ready=2,
            ),
            CloudView(
                name="full",
                driver="process",
                edge_url="http://10.0.0.7:8080",
                seen_at=NOW - 2,
                connected=True,
                edge=EdgeStatus(running=True),
                place=PlaceHealth(
                    state=PlaceState.DEGRADED,
                    reason="The disk has 12 MiB left.",
                    used=Capacity(cpus=64, memory_bytes=2**36, gpus=2),
                    free=Capacity(),
                ),
                replicas=3,
                ready=2,
            ),
            CloudView(
                name="far",
                driver="ray",
                edge_url="",
                seen_at=0,
                connected=False,
                edge=EdgeStatus(),
                replicas=0,
                ready=0,
            ),
        ],
        tables.of("cloud", NOW),
    ),
}


def commands(command: Any, path: tuple[str, ...] = ("kaon",)) -> Iterator[tuple[str, ...]]:
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


PATHS = list(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: "-".join(path))
def test_help_is_as_agreed(path: tuple[str, ...], run: Any, golden: Golden) -> None:
    said = run(*path[1:], "--help")
    assert said.code == 0
    golden(f"help/{'-'.join(path)}", said.out)
    assert [line for line in said.out.split("\n") if len(line) > 80] == []


def test_help_shows_an_example_of_every_command(run: Any) -> None:
    leaves = [path for path in PATHS if not any(other[: len(path)] == path and other != path for other in PATHS)]
    without = [path for path in leaves if f"$ {'kaon'}" not in run(*path[1:], "--help").out and "kaon up" not in path]
    assert without == []


def test_no_golden_file_is_left_of_a_command_that_is_gone() -> None:
    kept = {file.stem for file in (Path(__file__).parent / "golden" / "help").glob("*.txt")}
    assert kept == {"-".join(path) for path in PATHS}


@pytest.mark.parametrize("kind", THINGS)
@pytest.mark.parametrize("form", list(Format))
def test_things_look_as_agreed(kind: str, form: Format, golden: Golden) -> None:
    things, shape = THINGS[kind]
    text = table_text(things, shape, form)
    golden(f"shown/{kind}-{form}", text + "\n")
    assert "\x1b" not in text
    assert "\u202e" not in text


@pytest.mark.parametrize("kind", THINGS)
def test_json_and_yaml_say_what_was_there(kind: str) -> None:
    things, shape = THINGS[kind]
    members = [thing.model_dump(mode="json") for thing in things]
    assert json.loads(table_text(things, shape, Format.JSON)) == members
    assert yaml.safe_load(table_text(things, shape, Format.YAML)) == members


def test_the_page_of_a_deployment_is_as_agreed(golden: Golden) -> None:
    page = deployment_page(DEPLOYMENT, REVISIONS, REPLICAS, EVENTS, Objective(), NOW)
    golden("shown/describe", page + "\n")
    assert "\x1b" not in page


def test_an_error_is_as_agreed(golden: Golden) -> None:
    error = NotFound(
        f"There is no deployment '{EVIL}'.",
        hint="`kaon ps` lists those there are.",
        errors=[{"where": "body.scaling.min", "message": "too small"}, {"line": f"last words {EVIL}"}],
    )
    error.request_id = "req-12345678"
    later = Unavailable("Busy.", retry_after_s=4.2)
    told = failure(error) + "\n\n" + failure(later)
    golden("shown/errors", told + "\n")
    assert "req-12345678" in told
    assert "\x1b" not in told


def test_how_to_call_is_as_agreed(kaon_home: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    monkeypatch.setenv("KAON_KEY", "kaon_canary")
    closed = how_to_call(DEPLOYMENT, MANIFEST)
    public = how_to_call(
        DEPLOYMENT.model_copy(update={"spec": DEPLOYMENT.spec.model_copy(update={"public": True})}), MANIFEST
    )
    golden("shown/how-to-call", f"{closed}\n\n{public}\n")
    assert "canary" not in closed


def test_a_url_that_a_shell_would_run_is_not_pasted(kaon_home: Path) -> None:
    evil = DEPLOYMENT.model_copy(update={"url": "http://127.0.0.1/$(touch hacked)"})
    assert "curl" not in how_to_call(evil, MANIFEST)


def test_a_change_is_as_agreed(golden: Golden) -> None:
    before = DEPLOYMENT.spec
    wishes = DeployOptions(env={"TOKEN": "plain", "NEW": EVIL}, secrets={}, scale=ReplicaBounds(1), public=True)
    built = Built(Path("x"), "sha256:" + "cd" * 32, MANIFEST, 1)
    after = merged(before, built, wishes)
    texts = [
        spec_changes.summary("deployment", "greeter", old, new)
        for old, new in ((before, after), (None, after), (before, None), (before, before))
    ]
    golden("shown/changes", "\n\n".join(texts) + "\n")
    assert "\x1b" not in "".join(texts)


def test_what_is_waited_for_is_the_replica_that_is_furthest_behind() -> None:
    def replica(name: str, revision: int, phase: Phase) -> ReplicaStatus:
        return REPLICAS[0].model_copy(update={"name": name, "revision": revision, "phase": phase})

    replicas = [
        replica("a-1-0", 1, Phase.READY),
        replica("a-2-0", 2, Phase.LOADING),
        replica("a-2-1", 2, Phase.INSTALLING),
        replica("a-2-2", 2, Phase.READY),
    ]
    assert current_step(DEPLOYMENT, replicas) == ("Installing", "a-2-1")
    assert current_step(DEPLOYMENT, replicas[:1])[0] == "Stopped"


@pytest.mark.parametrize("columns", [80, 160])
def test_explanations_are_as_agreed(golden: Golden, columns: int) -> None:
    def entry(ago_s: float, **fields: Any) -> JournalEntry:
        return JournalEntry(at=NOW - ago_s, workspace="default", deployment="greeter", **fields)

    figures = {"law": "kaon", "rps": 40.0, "in_flight": 12, "queued": None, "call_s": 0.115, "start_s": 7.6}
    reason = "40.0 calls/s at 115.0 ms each; 4.6 replicas' worth at most in 300 s, share 1, beta 1"
    entries = [
        entry(900, concern="rollout", before="", after="revision 1", reason="It is what the spec says."),
        entry(600, concern="scaling", before="1", after="5", reason=reason, figures=figures),
        entry(300, concern="scaling", before="5", after="5", reason="no figures: as it was"),
        entry(60, concern="rollout", before="revision 2", after="revision 1", reason=EVIL, figures={"errors": EVIL}),
        entry(
            30,
            concern="tuning",
            before="margin=1 max_batch=8",
            after="margin=0.9 max_batch=16",
            reason="proved better: live 0.0478 in 9 windows, promised 0.0581: 0.0507 +- 0.018",
            figures={
                "kind": "trial",
                "before": {"margin": 1.0, "max_batch": 8.0},
                "after": {"margin": 0.9, "max_batch": 16.0},
                "predicted": 0.0581,
                "realised": 0.0478,
                "loss": 0.95,
                "force": [[0.9, 120, 0.8]] * 500,
            },
        ),
        entry(
            25,
            concern="tuning",
            before="margin=1",
            after="margin=0.9",
            reason="epoch: gain 3.2 %, at least 1.3 %",
            figures={"kind": "epoch", "before": {"margin": 1.0}, "after": {"margin": 0.9}, "looks": [[1.0] * 900]},
        ),
        entry(
            20,
            concern="tuning",
            before="margin=1",
            after="margin=1",
            reason="gain 0.2 %, at least -0.3 %: not surely above 1 %",
            figures={"kind": "epoch", "before": {"margin": 1.0}, "after": {"margin": 1.0}, "looks": [[1.0] * 900]},
        ),
    ]
    now = entry(0, concern="scaling", before="5", after="2", reason=reason, figures=figures)
    text = explain.page(DEPLOYMENT, Decisions(items=entries, now=now), NOW, columns)
    fixed = explain.page(DEPLOYMENT, Decisions(items=[]), NOW, columns)
    golden(f"shown/explain-{columns}", f"{text}\n\n{fixed}\n")
    assert max(map(len, text.splitlines())) <= columns
    assert "\x1b" not in text
    assert len(text) < 5000


@pytest.mark.parametrize(
    ("fields", "word"), [({}, "Stable"), ({"trial": TRIAL}, "trying"), ({"recommended": BETTER}, "tunable")]
)
def test_a_list_has_a_word_on_what_the_tuner_has_to_say(fields: dict[str, Any], word: str) -> None:
    status = DEPLOYMENT.status.model_copy(update={"tuning": TuningStatus(**fields)})
    view = DEPLOYMENT.model_copy(update={"status": status, "state": RolloutState.STABLE})
    assert tables.of("deployment", NOW).row(view)[2] == (word if word == "Stable" else f"Stable, {word}")
    assert ("kaon tune greeter" in deployment_page(view, [], [], [], Objective(), NOW)) is (word != "Stable")


def test_a_page_says_what_is_tuned_otherwise_than_it_began_and_fits_the_terminal() -> None:
    tuning = TuningStatus(values={"max_batch": 16, "max_wait_s": 0.00001}, recommended=BETTER)
    spec = DEPLOYMENT.spec.model_copy(update={"tuning": TuningSpec(mode=TuningMode.AUTO)})
    view = DEPLOYMENT.model_copy(
        update={"spec": spec, "status": DEPLOYMENT.status.model_copy(update={"tuning": tuning}), "reason": ""}
    )
    page = deployment_page(view, REVISIONS, REPLICAS, EVENTS, Objective(), NOW, columns=80)
    assert (
        "tuning:    mode auto; in force: max_batch=16, max_wait_s=0.00001; better knob\n"
        "           values are recommended: kaon tune greeter\n"
    ) in page
    assert max(len(line) for line in page.split("\n") if DIGEST not in line) <= 80
