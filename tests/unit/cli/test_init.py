"""`kaon init`: what it makes runs as it is, and nothing is overwritten."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kaon.cli.init.files import ProjectTemplate, new_files, project_names
from kaon.errors import InvalidInput

Run = Any
ROOT = Path(__file__).parents[3]


def checked(folder: Path, *command: str) -> str:
    """The output of a Python program in a folder, which must end well."""
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("template", list(ProjectTemplate))
def test_a_new_project_passes_its_test_and_is_clean(run: Run, project: Path, template: ProjectTemplate) -> None:
    said = run("init", "text-embedder2", "--template", template)
    assert said.code == 0, said.err
    folder = project / "text-embedder2"
    names = ["text_embedder2.py", "test_text_embedder2.py", "requirements.txt", "kaon.yaml", ".gitignore"]
    assert said.out.splitlines() == [f"text-embedder2/{name}" for name in names]
    assert "2 passed" in checked(folder, "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", ".")
    checked(folder, "ruff", "check", "--isolated", "--select", "E,F,I,UP,B,SIM", ".")
    checked(folder, "ruff", "format", "--isolated", "--check", ".")


def test_a_new_project_is_built_as_its_kaon_yaml_says(world: Any, run: Run, project: Path) -> None:
    run("init", "embedder")
    said = run("apply", "-f", "embedder/kaon.yaml")
    assert said.code == 0, said.err
    assert said.out.startswith("embedder: Stable at")


def test_init_overwrites_nothing(run: Run, project: Path) -> None:
    (project / "embedder").mkdir()
    (project / "embedder" / "kaon.yaml").write_text("mine")
    said = run("init", "embedder")
    assert (said.code, "embedder/kaon.yaml exists" in said.err) == (5, True), said.err
    assert [file.name for file in (project / "embedder").iterdir()] == ["kaon.yaml"], "nothing was written"


def test_init_in_this_folder_keeps_its_requirements(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project / "ranker"
    folder.mkdir()
    (folder / "requirements.txt").write_text("numpy\n")
    monkeypatch.chdir(folder)
    said = run("init", ".")
    assert said.out.splitlines() == ["ranker.py", "test_ranker.py", "kaon.yaml", ".gitignore"]
    assert (folder / "requirements.txt").read_text() == "numpy\n"
    assert run("init", ".").code == 5


@pytest.mark.parametrize("name", ["Shop", "my_shop", "-x", "3d", "api", "a" * 41, "shöp"])
def test_a_name_that_no_deployment_can_have_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be the name"):
        project_names(name)


@pytest.mark.parametrize("name", ["json", "kaon", "pytest", "class", "none", "starlette"])
def test_a_module_never_hides_another_one(name: str) -> None:
    names = project_names(name)
    assert (names.name, names.module) == (name, f"{name}_service")


@pytest.mark.parametrize("name", ["embedder", "text-embedder", "a1-2b", "none", "x"])
@pytest.mark.parametrize("template", list(ProjectTemplate))
def test_the_class_has_the_name_of_the_deployment(name: str, template: ProjectTemplate) -> None:
    names = project_names(name)
    module: dict[str, Any] = {"__name__": names.module}
    exec(compile(new_files(names, template)[f"{names.module}.py"], names.module, "exec", dont_inherit=True), module)
    assert module[names.cls].__kaon_service__.name == name
