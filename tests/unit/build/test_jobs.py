"""Artifacts with jobs: alone, and beside a service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kaon.build.build import Built, build
from kaon.build.marks import name_of_service, requirements_of
from kaon.build.sources import find_target
from kaon.errors import BuildError, InvalidInput

JOBS = """
import kaon

@kaon.job
def clean(raw: kaon.Dataset, rows: kaon.Output, strict: bool = False) -> int:
    '''Drop broken rows.'''
    return 0

@kaon.job(name="fit")
async def train(rows: kaon.Dataset, epochs: int = 3) -> dict[str, float]:
    return {}
"""
SERVICE = """
@kaon.service
class Shop:
    def __init__(self, k: int = 3) -> None: ...

    @kaon.endpoint
    def top(self) -> int:
        return 1

    @kaon.job
    def count(self, times: int) -> int:
        return times
"""


def run(project: Path, source: str, name: str) -> Built:
    (project / "shop.py").write_text(source)
    folders: Any = {"environments": project.parent / "environments", "out": project.parent / "out"}
    return build(f"shop.py:{name}", folder=project, **folders)


def test_a_function_becomes_an_artifact_with_all_jobs_of_its_module(project: Path) -> None:
    manifest = run(project, JOBS, "clean").manifest
    assert [(job.name, job.entry, job.inputs, job.outputs) for job in manifest.jobs] == [
        ("clean", "shop:clean", ("raw",), ("rows",)),
        ("fit", "shop:train", ("rows",), ()),
    ]
    assert (manifest.service.name, manifest.service.endpoints, manifest.service.uses) == ("clean", (), ())
    assert manifest.jobs[1].parameters["properties"]["epochs"]["type"] == "integer"


def test_jobs_beside_a_service_are_in_its_artifact(project: Path) -> None:
    manifest = run(project, JOBS + SERVICE, "Shop").manifest
    assert [endpoint.name for endpoint in manifest.service.endpoints] == ["top"]
    assert {job.name: job.entry for job in manifest.jobs} == {
        "clean": "shop:clean",
        "fit": "shop:train",
        "count": "shop:Shop.count",
    }


def test_two_jobs_of_one_name_and_a_plain_function_are_refused(project: Path) -> None:
    with pytest.raises(BuildError, match="several jobs named 'clean'"):
        run(project, JOBS.replace('"fit"', '"clean"'), "clean")
    with pytest.raises(BuildError, match="`plain` is not a job"):
        run(project, JOBS + "\ndef plain(): ...\n", "plain")
    with pytest.raises(BuildError, match="no class or function 'other'"):
        run(project, JOBS, "other")


def test_jobs_share_an_environment_with_their_module(project: Path) -> None:
    (project / "shop.py").write_text(
        'import kaon\n@kaon.job(requirements=["a==1"])\ndef train(): ...\n'
        '@kaon.service(requirements=["b"])\nclass Shop:\n    @kaon.job(requirements=["c", "a==1"])\n'
        "    def count(self): ...\n@kaon.service(requirements=['d'])\nclass Other: ...\n"
    )
    assert requirements_of(find_target("shop.py:train", project)) == ["a==1", "c", "b", "d"]
    assert requirements_of(find_target("shop.py:Shop", project)) == ["b", "a==1", "c"]


def test_a_job_is_run_and_not_deployed(project: Path) -> None:
    (project / "shop.py").write_text(JOBS)
    with pytest.raises(InvalidInput, match="is a job") as raised:
        name_of_service(find_target("shop.py:train", project))
    assert raised.value.hint == "Run: kaon job run shop.py:train"
