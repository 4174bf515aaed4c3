"""Every route refuses what it does not know of a request, at every depth, but takes what a newer agent says more of."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from tests.integration.api.test_api_security import RUNNING, jobs_of
from tests.integration.api.world import world_of
from tests.samples import places, sample, with_more

import kaon
from kaon.api.app import ROUTES
from kaon.api.router import AuthorizedRoute
from kaon.types.key import Right, Role

BODIES = [route for route in ROUTES if route.body_field is not None]
PEOPLE = [route for route in BODIES if route.right is not Right.AGENT]
AGENTS = [route for route in BODIES if route.right is Right.AGENT]


def where(route: AuthorizedRoute) -> str:
    path = route.path_format.removeprefix("/api/v1").replace("{ws}", "default").replace("{cloud}", "local")
    return re.sub(r"\{\w+\}", "web", path.replace("{id}", RUNNING))


@pytest.mark.parametrize("route", PEOPLE, ids=lambda route: route.operation_id)
async def test_a_request_with_one_more_field_at_any_depth_is_refused(tmp_path: Path, route: AuthorizedRoute) -> None:
    body = sample(route.body_field.field_info.annotation)
    (method,) = route.methods
    async with world_of(tmp_path) as world, world.client(world.keys["root"]) as root:
        for place in places(body):
            document = with_more(body.model_dump(mode="json"), place)
            answer = await root.request(method, where(route), json=document)
            assert answer.status_code == 422, answer.text
            told = {error["where"]: error["message"] for error in answer.json()["errors"]}
            assert told[".".join(map(str, ("body", *place, "of_a_newer_kaon")))] == "Extra inputs are not permitted"


@pytest.mark.parametrize("route", AGENTS, ids=lambda route: route.operation_id)
async def test_unknown_fields_of_a_newer_agent_are_ignored(tmp_path: Path, route: AuthorizedRoute) -> None:
    body = sample(route.body_field.field_info.annotation).model_copy(update={"cloud": "local"})
    (method,) = route.methods
    document = with_more(body.model_dump(mode="json"), *places(body))
    async with world_of(tmp_path) as world:
        await jobs_of(world)
        agent = await world.key("agent", Role.AGENT, cloud="local")
        async with world.client(agent) as client:
            answer = await client.request(method, where(route), json=document)
    assert answer.is_success, answer.text


WIRE_READS = {
    ("api/router.py", "_bulk_reader.validate_json"): "of a large body, which is read again by the route",
    (
        "api/dataset_pushes.py",
        "codec_of(DatasetManifest).bulk_reader.validate_json",
    ): "a large body, without unknown fields",
    ("api/rollouts.py", "ShadowReport.model_validate_json"): "from an agent",
    ("api/replicas.py", "LogLine.model_validate_json"): "from an agent",
    ("api/views.py", "Scaling.model_validate"): "of a request that was read",
    ("cli/apply/steps.py", "kind.spec.model_validate"): "a spec from the platform",
    ("cli/apply/steps.py", "DeploymentSpec.model_validate"): "a spec that was read before",
    ("cli/init/files.py", "TypeAdapter(kind.named).validate_python"): "a name",
    ("cli/job/command.py", "KINDS['job'].view.model_validate_json"): "from the platform",
    ("cli/job/follow.py", "KINDS['job'].view.model_validate_json"): "from the platform",
    ("cli/job/follow.py", "Progress.model_validate_json"): "from the platform",
    ("cli/job/follow.py", "JobMetrics.model_validate_json"): "from the platform",
    ("cli/shared/remote.py", "DatasetManifest.model_validate_json"): "from the platform",
    ("cli/apply/documents.py", "TypeAdapter(KINDS[document.kind].named).validate_python"): "a name",
    ("cli/shared/settings.py", "_SCALARS[setting.type].validate_strings"): "a text, which holds no model",
    ("cli/tune/request.py", "_VALUES.validate_python"): "numbers by name, which hold no model",
}


def test_api_and_cli_read_requests_by_one_function() -> None:
    """So none can forget to refuse what is unknown: whoever reads otherwise says here what it reads."""
    found = set()
    root = Path(str(kaon.__file__)).parent
    for file in [*(root / "api").rglob("*.py"), *(root / "cli").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(attr=name)) if re.fullmatch(r"(model_)?validate(_\w+)?", name):
                    told = ast.unparse(node.func).removeprefix("self.")
                    found.add((file.relative_to(root).as_posix(), told))
    assert found == set(WIRE_READS)
