"""`kaon deploy` without a class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kaon.settings import Settings

from .conftest import GREETER

Run = Any
YAML = """
kind: deployment
name: hello
source: greeter.py:Greeter
spec:
  public: true
  template:
    env: {GREETING: Hi}
"""


def spec_of(run: Run, name: str) -> Any:
    return json.loads(run("get", "deployment", name, "-o", "json").out)["spec"]


def test_the_only_service_of_a_folder_is_deployed(world: Any, run: Run, project: Path) -> None:
    said = run("deploy", "--env", "GREETING=Yo")
    assert said.code == 0, said.err
    assert said.out.startswith(f"greeter answers at {Settings().url}/greeter\n")
    assert spec_of(run, "greeter")["template"]["env"] == {"GREETING": "Yo"}


def test_several_services_without_a_file_are_listed_with_their_commands(world: Any, run: Run, project: Path) -> None:
    (project / "other.py").write_text(GREETER.replace("Greeter", "Other"))
    said = run("deploy")
    assert said.code == 2
    assert "  kaon deploy greeter.py:Greeter\n  kaon deploy other.py:Other\n" in said.err
    assert run("get", "deployments", "-o", "name").out == ""


def test_a_folder_without_a_service_is_told_how_to_make_one(world: Any, run: Run) -> None:
    said = run("deploy")
    assert (said.code, "kaon init NAME" in said.err) == (3, True)


def test_a_file_says_what_is_deployed_and_twice_is_once(world: Any, run: Run, project: Path) -> None:
    (project / "kaon.yaml").write_text(YAML)
    first = run("deploy")
    assert first.code == 0, first.err
    assert first.out.startswith(f"hello answers at {Settings().url}/hello\n")
    assert spec_of(run, "hello")["public"] is True
    again = run("deploy")
    assert (again.code, "no change of deployment hello" in again.err) == (0, True), again.err


def test_changes_are_made_without_a_question(world: Any, run: Run, project: Path) -> None:
    (project / "kaon.yaml").write_text(YAML)
    run("deploy")
    (project / "kaon.yaml").write_text(YAML.replace("Hi", "Good day"))
    said = run("deploy")
    assert (said.code, "~ template.env.GREETING: Hi -> Good day" in said.err) == (0, True), said.err


def test_options_change_what_the_file_says(world: Any, run: Run, project: Path) -> None:
    (project / "kaon.yaml").write_text(YAML)
    said = run("deploy", "--env", "OTHER=1", "--unset", "GREETING", "--max", "4", "--closed", "--canary", "10,50")
    assert said.code == 0, said.err
    spec = spec_of(run, "hello")
    assert (spec["template"]["env"], spec["scaling"]["max"], spec["public"]) == ({"OTHER": "1"}, 4, False)
    assert spec["rollout"]["canary"]["steps"] == [10, 50]
    shadow = run("deploy", "--shadow", "20", "--env", "OTHER=2", "--no-wait", "-o", "json")
    assert shadow.code == 0, shadow.err
    spec = spec_of(run, "hello")
    assert spec["template"]["env"] == {"OTHER": "1"}
    assert spec["shadow"]["template"]["env"] == {"GREETING": "Hi", "OTHER": "2"}


def test_wrong_options_are_refused_before_the_build(world: Any, run: Run, project: Path) -> None:
    (project / "kaon.yaml").write_text(YAML)
    for arguments in (["--canary", "x"], ["--unset", "NOTHING"], ["--shadow", "5"], ["--secret", "TOKEN=nothing"]):
        said = run("deploy", *arguments)
        assert (said.code, "Building" in said.err) == (2, False), said.err


def test_a_file_of_several_deployments_deploys_all_of_them_and_takes_no_options(
    world: Any, run: Run, project: Path
) -> None:
    (project / "kaon.yaml").write_text(f"kind: workspace\nname: team-a\n---{YAML}---{YAML.replace('hello', 'bye')}")
    said = run("deploy", "--canary", "5")
    assert (said.code, "kaon deploy greeter.py:Greeter --name bye" in said.err) == (2, True), said.err
    said = run("deploy")
    assert said.code == 0, said.err
    assert said.out.splitlines() == [f"{name}: Stable at {Settings().url}/{name}" for name in ("hello", "bye")]
    assert [d["name"] for d in json.loads(run("deploy", "-o", "json").out)] == ["hello", "bye"]
    assert "team-a" in run("workspace", "list").out


def test_a_dry_run_of_a_file_changes_nothing(world: Any, run: Run, project: Path) -> None:
    (project / "kaon.yaml").write_text(YAML)
    said = run("deploy", "--dry-run")
    assert (said.code, said.out.splitlines()[0]) == (0, "create deployment hello")
    assert run("get", "deployments", "-o", "name").out == ""


@pytest.mark.parametrize("text", ["kind: deployment\nname: x\n", "kind: deploymnt\nname: x\n", "a: ["])
def test_a_file_that_is_wrong_is_an_error_before_anything_is_built(
    world: Any, run: Run, project: Path, text: str
) -> None:
    (project / "kaon.yaml").write_text(text)
    said = run("deploy")
    assert (said.code, "kaon.yaml" in said.err, "Building" in said.err) == (2, True, False), said.err


def test_secrets_that_do_not_exist_are_refused_before_the_build(world: Any, run: Run, project: Path) -> None:
    run("secret", "set", "token", text="x")
    (project / "kaon.yaml").write_text(YAML.replace("env: {GREETING: Hi}", "secrets: {TOKEN: tokn}"))
    for arguments in (["deploy"], ["apply", "-f", "kaon.yaml"], ["deploy", "greeter.py:Greeter", "--secret", "T=tokn"]):
        said = run(*arguments)
        assert (said.code, "Building" in said.err) == (2, False), said.err
        assert "Did you mean token? Set it: kaon secret set tokn" in said.err


def test_build_without_a_class_builds_what_deploy_builds(world: Any, run: Run, project: Path) -> None:
    built = [run("build", "-o", "name").out]
    assert run("deploy").code == 0
    assert spec_of(run, "greeter")["template"]["artifact"] == built[0].strip()
    (project / "other.py").write_text(GREETER.replace("Greeter", "Other"))
    several = run("build")
    assert (several.code, "  kaon build other.py:Other\n" in several.err) == (2, True)
    (project / "kaon.yaml").write_text(
        f"{YAML}---\nkind: deployment\nname: other\nsource: other.py:Other\ninclude: [notes.txt]\n"
    )
    (project / ".gitignore").write_text("notes.txt\n")
    (project / "notes.txt").write_text("packed only where it is included")
    digests = run("build", "-o", "name").out.split()
    assert run("deploy").code == 0
    assert digests == [spec_of(run, name)["template"]["artifact"] for name in ("hello", "other")]
    assert "notes.txt" in run("build", "--list").out


def test_options_of_the_build_reach_what_the_file_lists(world: Any, run: Run, project: Path) -> None:
    (project / "kaon.yaml").write_text(YAML)
    (project / "model.pkl").write_bytes(b"a pickle")
    assert run("deploy").code == 1, "pickles need a consent"
    done = run("deploy", "--allow-pickle")
    assert done.code == 0, done.err
