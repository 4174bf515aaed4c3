"""What a plan weighs, and what it costs to make it again after one change.

Bytes: 50 to 400 deployments of two replicas with 50 keys, each deployment with a key of its own besides, as they have.
A pass: one of 200 deployments of 10 replicas changes, on SQLite; what is stored is read, the plan is made and written.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from benchmarks.report import QUICK, Report, median
from kaon.agent.plan_file import PlanReader
from kaon.clock import FakeClock
from kaon.control.plan_parts import PlanInputs
from kaon.control.planning import PlanningController, plan
from kaon.store import open_store
from kaon.store.memory import MemoryStore
from kaon.store.plans import StoredPlans
from kaon.store.port import Store
from kaon.store.snapshot import Snapshot
from kaon.types.artifact import ArtifactSpec, Manifest
from kaon.types.cloud import CloudSpec
from kaon.types.deployment import (
    Assignment,
    DeploymentSpec,
    DeploymentStatus,
    Placement,
    RevisionSpec,
    RolloutStatus,
    ScalingStatus,
    Template,
    template_hash,
)
from kaon.types.key import KeySpec, Role, key_hash
from kaon.types.plan import Plan, PlanPart
from kaon.types.secret import SecretSpec
from kaon.types.service import EndpointSpec, ServiceSpec

DIGEST = f"sha256:{'0' * 64}"
TEMPLATE = Template(artifact=DIGEST, env={"MODEL": "small", "REGION": "eu-central"})
KEYS = 50
SIZES = (50, 100, 200, 400)
PASSES = 20 if QUICK else 100


async def fill(store: Store, deployments: int, replicas: int) -> None:
    """What is stored of a cloud with so many deployments of so many replicas."""
    await store.create("cloud", "", "local", CloudSpec())
    paths = ("/predict", "/embed", "/rank", "/health-of-model")
    endpoints = tuple(EndpointSpec(name=path[1:], method="POST", path=path) for path in paths)
    service = ServiceSpec(name="Shop", entry="shop:Shop", endpoints=endpoints)
    manifest = Manifest(kaon="0", python="3.11", service=service, files=())
    await store.create("artifact", "default", DIGEST, ArtifactSpec(digest=DIGEST, size_bytes=1, manifest=manifest))
    for number in range(KEYS):
        await _key(store, f"user-{number}")
    ordinals = tuple(range(replicas))
    serving = (Assignment(revision=1, replicas=replicas, ready=replicas, weight=100, ordinals=ordinals),)
    placed = Placement(cloud="local")
    for number in range(deployments):
        name = f"service-{number}"
        rollout = RolloutStatus(stable=1, target=1, assignments=serving)
        status = DeploymentStatus(rollout=rollout, scaling=ScalingStatus(wanted=replicas), placement=placed)
        made = await store.create("deployment", "default", name, DeploymentSpec(template=TEMPLATE), status)
        revision = RevisionSpec(
            deployment=name, deployment_uid=made.uid, number=1, template=TEMPLATE, template_hash=template_hash(TEMPLATE)
        )
        await store.create("revision", "default", f"{name}-1", revision)
        await _key(store, f"identity-{name}")
        await store.create("secret", "default", f"identity-{name}", SecretSpec(ciphertext="", key_id=""))


async def _key(store: Store, name: str) -> None:
    spec = KeySpec(hash=key_hash(name), hint="kaon_abcd", role=Role.CALLER, workspace="default")
    await store.create("key", "default", name, spec)


async def bytes_of(deployments: int, replicas: int) -> int:
    """How long the plan is that an agent gets."""
    store = MemoryStore(FakeClock())
    await fill(store, deployments, replicas)
    kinds = ("deployment", "revision", "artifact", "key", "secret")
    world = PlanInputs(*[await store.list_all(kind) for kind in kinds])
    return len(plan("local", world, 1.0).plan.model_dump_json())


async def passes(folder: Path, deployments: int, replicas: int) -> dict[str, list[float]]:
    """Milliseconds of a planning pass after one change, of nothing changed, and of an agent that reads the plan."""
    store = open_store(f"sqlite:///{folder / 'kaon.db'}")
    await store.open()
    took: dict[str, list[float]] = {"change": [], "idle": [], "read": [], "written_bytes": []}
    try:
        await fill(store, deployments, replicas)
        snapshot = Snapshot(store)
        await snapshot.current()
        planning = PlanningController(store, FakeClock(), snapshot=snapshot)
        await planning.reconcile(("", "local"))
        for number in range(PASSES):
            found = snapshot.get("deployment", "default", f"service-{number % deployments}")
            spec = found.spec.model_copy(update={"drain_s": 100.0 + number})
            await store.update_spec(found, spec)
            await snapshot.at_least(store.written)
            before = {row.name: row.version for row in snapshot.list("plan_part", "")}
            for name in ("change", "idle"):
                began = time.perf_counter()
                await planning.reconcile(("", "local"))
                took[name].append(1000 * (time.perf_counter() - began))
            await snapshot.at_least(store.written)
            rows = [row for row in snapshot.list("plan_part", "") if before.get(row.name) != row.version]
            assert len(rows) == 1, f"one change makes one part anew, not {len(rows)}"
            head = snapshot.get("plan", "", "local")
            took["written_bytes"].append(sum(len(row.spec.model_dump_json()) for row in (*rows, head)))
        named = StoredPlans(snapshot).read("local")
        assert named is not None
        reader = PlanReader()
        for number in range(6):
            part = PlanPart(**{**dict(named.plan.parts["default/service-0"]), "replicas": ()} if number % 2 else {})
            text = Plan.of(
                "local", named.plan.grants, {**named.plan.parts, "default/service-0": part}
            ).model_dump_json()
            began = time.perf_counter()
            reader.read(text.encode())
            took["read"].append(1000 * (time.perf_counter() - began))
    finally:
        await store.close()
    return took


def measure(report: Report) -> None:
    """Put the plan's figures and bars into `report`."""
    sizes = {count: asyncio.run(bytes_of(count, 2)) for count in SIZES}
    report.figures["plan_bytes_50_keys_2_replicas"] = sizes
    report.at_most("plan_bytes_400_over_50_deployments", sizes[400] / sizes[50], 9)
    with tempfile.TemporaryDirectory() as folder:
        took = asyncio.run(passes(Path(folder), 200, 10))
    report.figures["planning_pass_200x10_ms"] = {
        name: {"p50": round(median(times), 3), "most": round(max(times), 3)}
        for name, times in took.items()
        if name != "read"
    }
    report.figures["agent_reads_plan_200x10_ms"] = {"first": took["read"][0], "one_part_changed": took["read"][1:]}
    report.at_most("planning_pass_after_one_change_200x10_ms_p50", median(took["change"]), 20)
