"""The commands, typed against the real API."""

from __future__ import annotations

import array
import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.waiting import eventually

from kaon.cli.shared import tables
from kaon.cli.shared.notes import failure
from kaon.cli.shared.remote import Remote
from kaon.errors import InvalidInput
from kaon.settings import Settings
from kaon.types.garbage import Collected, UnusedArtifact

from .conftest import LINES

Run = Any


def test_deploy_builds_brings_waits_and_says_how_to_call(world: Any, run: Run, project: Path) -> None:
    said = run("deploy", "greeter.py:Greeter")
    url = f"{Settings().url}/greeter"
    assert said.code == 0, said.err
    assert f"greeter answers at {url}" in said.out
    assert f'curl "{url}/greet"' in said.out
    assert f'authorization: Bearer $(cat {Settings().admin_key_file})"' in said.out
    assert "kaon key create NAME --role caller --deployment greeter" in said.out
    assert "create deployment greeter" in said.err
    assert "Building: packing" in said.err
    assert "\x1b" not in said.out + said.err


def test_the_curl_line_works_when_pasted(world: Any, run: Run, project: Path) -> None:
    lines = run("deploy", "greeter.py:Greeter").out.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("curl"))
    end = next(n for n, line in enumerate(lines[start:], start) if not line.endswith("\\"))
    pasted = "\n".join(lines[start : end + 1])
    done = subprocess.run(["bash", "-c", pasted], capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(done.stdout) == ["Hello, hello!"]


def test_what_deploy_does_not_name_stays(world: Any, run: Run, project: Path) -> None:
    run("deploy", "greeter.py:Greeter", "--env", "GREETING=Hi", "--replicas", "3", "--public")
    said = run("deploy", "greeter.py:Greeter", "--env", "OTHER=1", "-o", "json")
    spec = json.loads(said.out)["spec"]
    assert spec["template"]["env"] == {"GREETING": "Hi", "OTHER": "1"}
    assert (spec["scaling"]["min"], spec["scaling"]["max"]) == (3, 3)
    assert spec["public"] is True
    assert "+ template.env.OTHER: 1" in said.err
    assert "GREETING" not in said.err


def test_a_dry_run_shows_the_change_and_makes_none(deployed: None, run: Run) -> None:
    said = run("deploy", "greeter.py:Greeter", "--env", "GREETING=Hi", "--min", "2", "--dry-run")
    assert said.code == 0
    assert said.out.splitlines() == [
        "change deployment greeter",
        "  ~ scaling.max: 1 -> 2",
        "  ~ scaling.min: 1 -> 2",
        "  + template.env.GREETING: Hi",
    ]
    assert json.loads(run("get", "deployment", "greeter", "-o", "json").out)["spec"]["template"]["env"] == {}


def test_a_rollout_that_stops_is_an_error_with_the_replicas_words(deployed: None, run: Run) -> None:
    said = run("deploy", "greeter.py:Greeter", "--env", "BROKEN=1")
    assert said.code == 1
    assert "revision 1 still serves" in said.err
    assert "ConfigError: THRESHOLD is missing" in said.err
    assert "kaon rollout undo greeter" in said.err
    assert "kaon logs greeter --revision 2" in said.err


def test_a_rollout_that_stops_without_a_crash_shows_the_last_warnings_of_its_revision(
    deployed: None, world: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = json.dumps({"event": "the model is slow", "level": "warning", "request_id": "r9"})
    monkeypatch.setattr(sys.modules[type(world).__module__], "LINES", ("a print", slow))
    monkeypatch.setattr(tables, "last_lines", lambda _: "")
    said = run("deploy", "greeter.py:Greeter", "--env", "BROKEN=1")
    assert (said.code, "WARNING  the model is slow  [r9]" in said.err, "a print" in said.err) == (1, True, False)


def test_ctrl_c_in_a_wait_says_what_goes_on_and_how_to_stop_it(
    deployed: None, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Remote, "replicas", interrupt)
    said = run("scale", "greeter", "2")
    assert said.code == 130
    assert "The rollout of 'greeter' continues." in said.err
    assert "kaon rollout undo greeter" in said.err


def test_a_secret_reaches_a_deployment_by_name_and_no_output(world: Any, run: Run, project: Path) -> None:
    canary = "canary-4711-canary"
    said = [run("secret", "set", "token", text=canary + "\n")]
    said += [run("deploy", "greeter.py:Greeter", "--secret", "TOKEN=token")]
    said += [run("secret", "list", "-o", form) for form in ("table", "json", "yaml", "name")]
    said += [run("describe", "greeter"), run("events")]
    assert [one.code for one in said] == [0] * len(said)
    assert all(canary not in one.out + one.err for one in said)
    assert "TOKEN=(secret token)" in said[-2].out
    assert run("secret", "rm", "token", "-y").code == 5


def test_a_secret_that_is_missing_is_told_with_the_command(world: Any, run: Run, project: Path) -> None:
    said = run("deploy", "greeter.py:Greeter", "--secret", "TOKEN=nothing")
    assert said.code == 2
    assert "kaon secret set nothing" in said.err
    assert "Building" not in said.err


def test_ps_shows_deployments_and_replicas(deployed: None, run: Run) -> None:
    run("scale", "greeter", "2")
    out = run("ps").out
    assert "greeter-1-0" in out
    assert "greeter-1-1" in out
    assert "Stable" in out
    assert run("ps", "-o", "name").out.split() == ["greeter-1-0", "greeter-1-1"]


@pytest.mark.parametrize("kind", ["deployment", "replicas", "artifacts", "keys", "workspaces", "clouds", "events"])
def test_every_kind_in_every_format(deployed: None, run: Run, kind: str) -> None:
    assert run("get", kind).out.count("\n") >= 2
    names = run("get", kind, "-o", "name").out.split()
    assert names
    assert len(json.loads(run("get", kind, "-o", "json").out)) == len(names)
    assert len(yaml.safe_load(run("get", kind, "-o", "yaml").out)) == len(names)


def test_one_artifact_by_its_first_digits(deployed: None, run: Run) -> None:
    digest = run("get", "artifacts", "-o", "name").out.strip()
    found = json.loads(run("get", "artifact", digest[7:15], "-o", "json").out)
    assert found["name"] == digest
    assert found["spec"]["manifest"]["service"]["name"] == "greeter"


def test_describe_tells_all(deployed: None, run: Run) -> None:
    for words in (("greeter",), ("deployment", "greeter")):
        out = run("describe", *words).out
        for part in ("url:", "state:     Stable", "revisions", "replicas", "greeter-1-0", "events", "Deployed"):
            assert part in out


def test_logs_are_told_apart_filtered_and_harmless(deployed: None, world: Any, run: Run) -> None:
    out = run("logs", "greeter", "--tail", "7", "--since", "10m").out
    assert out.splitlines() == [
        "-             greeter-1-0           started",
        "-             greeter-1-0           an \\x1b[31mERROR\\x1b[0m of note",
        "-             greeter-1-0           ready",
    ]
    assert world.calls[-1]["tail"] == 7
    assert world.calls[-1]["since_s"] == 600
    assert "started" not in run("logs", "greeter", "--grep", "ERROR").out
    assert json.loads(run("logs", "greeter", "-o", "json").out.splitlines()[0])["replica"] == "greeter-1-0"
    assert world.calls[-1]["level"] is None


def test_logs_of_replicas_that_have_ended_are_found_by_revision_name_and_text(
    deployed: None, world: Any, run: Run
) -> None:
    assert run("logs", "greeter", "--revision", "7", "--tail", "1").out.count("greeter-7-") == 32 * len(LINES)
    assert run("logs", "greeter", "--replica", "greeter-2-5").out.count("ready") == 1
    found = run("logs", "greeter", "--past", "--grep", "ready", "--level", "error")
    assert (found.out, "No such lines of 'greeter'" in found.err) == ("", True)
    assert world.calls[-1]["level"] == "error"
    assert world.calls[-1]["grep"] == "ready"
    assert run("logs", "greeter", "--replica", "other-1-0").code == 3


def test_events_name_what_happened(deployed: None, run: Run) -> None:
    run("scale", "greeter", "2")
    out = run("events", "greeter").out
    assert "Deployed" in out
    assert "Scaled" in out
    assert len(run("events", "--limit", "1", "-o", "name").out.split()) == 1


def test_call_prints_the_answer_as_json(deployed: None, run: Run) -> None:
    assert run("call", "greeter", "greet", "--json", '{"names": ["Ada"]}').out == '["Hello, Ada!"]\n'
    assert run("call", "greeter", "greet", 'names=["Ada", "Bob"]').out == '["Hello, Ada!", "Hello, Bob!"]\n'
    assert run("call", "greeter", "greet", "--json", "-", text='{"names": []}').out == "[]\n"


def test_call_prints_a_stream_item_by_item_or_whole(deployed: None, run: Run) -> None:
    assert run("call", "greeter", "count", "to=3", "--stream").out == "0\n1\n2\n"
    assert run("call", "greeter", "count", "to=3").out == "[0, 1, 2]\n"


def test_builds_that_nothing_is_made_of_are_taken_away(world: Any, run: Run, project: Path) -> None:
    run("deploy", "greeter.py:Greeter")
    (used,) = json.loads(run("get", "artifacts", "-o", "json").out)
    assert run("rm", "artifact", used["name"][:15], "-y").code == 5, "it is in use"
    assert "artifacts: 0" in run("rm", "artifact", "--unused", "-y").err
    assert run("rm", "secret", "--unused", "-y").code == 2
    run("rm", "greeter", "-y")
    assert "artifacts: 1" in run("rm", "artifact", "--unused", "-y").err
    assert json.loads(run("get", "artifacts", "-o", "json").out) == []


def test_call_keeps_its_answer_in_a_file(deployed: None, run: Run) -> None:
    assert run("call", "greeter", "count", "to=3", "-o", "items", "-H", "X-Request-Id: abcd1234").code == 0
    assert Path("items").read_text() == "0\n1\n2\n"
    assert run("call", "greeter", "greet", "names=Ada", "names=Bob", "-o", "answer").out == ""
    assert Path("answer").read_text() == '["Hello, Ada!", "Hello, Bob!"]\n'


def test_a_name_that_is_nearly_right_gets_a_suggestion(deployed: None, run: Run) -> None:
    for words in ("describe greter", "logs greter", "scale greter 2", "get deployment greter", "call greter greet"):
        said = run(*words.split())
        assert (said.code, "Did you mean greeter?" in said.err) == (3, True), said.err
    assert "Did you mean greet?" in run("call", "greeter", "gret").err
    assert "Did you mean deployments?" in run("get", "deploymens").err
    assert "Did you mean" not in run("describe", "payroll").err


def test_call_says_what_is_wrong(deployed: None, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("call", "greeter", "greet", "--json", "{").code == 2
    assert run("call", "greeter", "greet", "names").code == 2
    assert run("call", "greeter", "missing").code in (2, 3)
    monkeypatch.setenv("KAON_KEY", "kaon_wrong")
    assert run("call", "greeter", "greet", "--json", '{"names": []}').code == 4


def test_scale_to_a_number_to_bounds_and_to_nothing(deployed: None, run: Run) -> None:
    assert "3/3" in run("scale", "greeter", "3").out
    assert run("scale", "greeter", "--min", "1", "--max", "5", "--dry-run").out.splitlines()[0] == (
        "change deployment greeter"
    )
    assert run("scale", "greeter", "0").code == 2
    assert "0/0" in run("scale", "greeter", "0", "-y").out
    assert run("scale", "greeter").code == 2
    assert run("scale", "greeter", "3", "--max", "5").code == 2
    assert run("scale", "greeter", "--min", "5", "--max", "2").code == 2


def test_set_changes_a_field_without_a_build_and_says_what_it_changes(deployed: None, run: Run) -> None:
    said = run("set", "greeter", "objective.latency_s=0.2", "template.env.GREETING=Hi")
    assert (said.code, "greeter" in said.out) == (0, True)
    assert "+ objective.latency_s: 0.2" in said.err
    assert run("rollout", "history", "greeter").out.count("serving") == 1
    assert run("set", "greeter", "scaling.max=4", "--dry-run").out.splitlines()[0] == "change deployment greeter"
    assert run("set", "greeter", "public=false").err.startswith("no change of deployment greeter")
    assert run("set", "greeter", "scaling.min=0").code == 2, "nobody said yes"
    assert run("set", "greeter", "objective.latencys=1").code == 2
    assert run("set", "nobody", "public=true").code == 3
    assert run("set", "greeter").code == 2


def test_undo_shows_the_change_asks_and_goes_back(deployed: None, run: Run) -> None:
    run("deploy", "greeter.py:Greeter", "--env", "GREETING=Hi")
    assert run("rollout", "undo", "greeter", "--to", "1").code == 2
    said = run("rollout", "undo", "greeter", "--to", "1", "-y")
    assert said.code == 0
    assert "- template.env.GREETING: Hi" in said.err
    states = [line.split()[:2] for line in run("rollout", "history", "greeter").out.splitlines()[1:]]
    assert states == [["1", "serving"], ["2", "past"]]
    assert run("rollout", "undo", "greeter", "--to", "9", "-y").code == 3


@pytest.mark.parametrize("verb", ["status", "pause", "resume", "restart"])
def test_rollout_verbs_end_with_how_it_is(deployed: None, run: Run, verb: str) -> None:
    said = run("rollout", verb, "greeter")
    assert said.code == 0
    assert "greeter" in said.out.splitlines()[1]


def test_a_destructive_verb_does_nothing_when_nobody_says_yes(deployed: None, run: Run) -> None:
    said = run("rm", "greeter")
    assert said.code == 2
    assert "-y" in said.err
    assert run("get", "deployment", "greeter").code == 0


@pytest.mark.parametrize("words", [("greeter",), ("deployment", "greeter"), ("deployments", "greeter")])
def test_rm_takes_a_deployment_away(deployed: None, run: Run, words: tuple[str, ...]) -> None:
    assert run("rm", *words, "-y").code == 0
    assert run("get", "deployment", "greeter").code == 3


def test_a_key_is_shown_once_and_alone(deployed: None, run: Run) -> None:
    said = run("key", "create", "web", "--deployment", "greeter", "--expires", "90d")
    key = said.out.strip()
    assert key.startswith("kaon_")
    assert key not in said.err
    listed = run("key", "list", "-o", "json").out
    assert key not in listed
    assert {k["name"]: k["deployments"] for k in json.loads(listed)}["web"] == ["greeter"]
    assert run("key", "create", "web").code == 5
    assert run("key", "revoke", "web").code == 2
    assert run("key", "revoke", "web", "-y").code == 0
    assert "revoked" in run("key", "list").out
    assert run("key", "create", "x", "--expires", "soon").code == 2


def test_the_end_of_a_key_says_what_it_deployed_and_an_admin_adopts_that(
    deployed: None, run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAON_KEY", run("key", "create", "ci", "--role", "editor").out.strip())
    run("deploy", "greeter.py:Greeter", "--env", "GREETING=Hi")
    monkeypatch.delenv("KAON_KEY")
    said = run("key", "revoke", "ci", "-y")
    assert (said.code, "deployments: greeter." in said.err, "kaon adopt NAME" in said.err) == (0, True, True), said.err
    said = run("adopt", "greeter")
    assert (said.code, "owns 'greeter'" in said.err) == (0, True), said.err
    assert json.loads(run("get", "deployment", "greeter", "-o", "json").out)["spec"]["owner"] != "ci"


def test_a_key_can_end_with_what_it_deployed(
    deployed: None, run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAON_KEY", run("key", "create", "ci", "--role", "editor").out.strip())
    run("deploy", "greeter.py:Greeter", "--env", "GREETING=Hi")
    monkeypatch.delenv("KAON_KEY")
    asked = run("key", "revoke", "ci", "--with-deployments")
    assert (asked.code, "delete deployments greeter" in asked.err) == (2, True), asked.err
    assert run("key", "revoke", "ci", "--with-deployments", "-y").code == 0
    assert run("get", "deployment", "greeter").code == 3


def test_gc_shows_what_may_go_and_asks(deployed: None, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        said = run("gc", "--dry-run")
        assert (said.code, said.out.strip()) == (0, "Nothing to delete."), said.err
    unused = UnusedArtifact(workspace="default", digest=f"sha256:{'a' * 64}", service="old", size_bytes=2048, used_at=1)
    found = Collected(artifacts=(unused,), keys=("default/ci",), rows={"events": 1200, "deleted": 0})
    left = [found.model_copy(update={"more": True}), found, Collected()]
    monkeypatch.setattr(Remote, "garbage", lambda _: left[0])
    monkeypatch.setattr(Remote, "collect_garbage", lambda _: left.pop(0))
    asked = run("gc")
    assert (asked.code, len(left)) == (2, 3)
    assert [word in asked.out for word in ("aaaaaaaaaaaa", "old events", "1,200", "2.0 kB")] == [True] * 4, asked.out
    assert run("gc", "--dry-run", "-o", "name").out.strip() == f"artifact/sha256:{'a' * 64}"
    assert json.loads(run("gc", "--dry-run", "-o", "json").out)["rows"]["events"] == 1200
    said = run("gc", "-y")
    assert (said.code, len(left)) == (0, 1), "it goes on while there is more"
    assert "Freed" in said.err


def test_commands_use_the_workspace_of_the_key(
    deployed: None, run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("workspace", "create", "team-a")
    monkeypatch.setenv("KAON_KEY", run("key", "create", "ci", "--role", "editor", "-w", "team-a").out.strip())
    assert run("deploy", "greeter.py:Greeter", "--name", "ours").code == 0
    said = run("ps", "-o", "name")
    assert (said.code, said.out.split()) == (0, ["ours-1-0"]), said.err
    assert run("ps", "-w", "default").code == 3
    monkeypatch.setenv("KAON_WORKSPACE", "team-b")
    assert run("ps").code != 0, "a workspace that was chosen is used"


def test_status_and_doctor_are_about_the_platform_of_the_context(
    run: Run, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]
) -> None:
    monkeypatch.setenv("KAON_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("KAON_KEY", "kaon_x")
    said = run("status")
    assert (said.code, "cannot be reached" in said.err) == (7, True), said.err
    findings = {f["check"]: f["verdict"] for f in json.loads(run("doctor", "-o", "json").out)}
    assert findings["api"] == findings["clouds"] == "fail"
    assert not {"port", "sockets", "processes"} & findings.keys(), "these are of a platform on this machine"


def test_set_removes_a_setting_and_checks_what_is_left(deployed: None, run: Run) -> None:
    run("set", "greeter", "template.env.GREETING=Hi")
    said = run("set", "greeter", "--unset", "GREETING", "--dry-run")
    assert said.out.splitlines() == ["change deployment greeter", "  - template.env.GREETING: Hi"], said.err
    assert run("set", "greeter", "--unset", "GREETING", "template.env.OTHER=1").code == 0
    assert json.loads(run("get", "deployment", "greeter", "-o", "json").out)["spec"]["template"]["env"] == {
        "OTHER": "1"
    }
    for wrong in (["--unset", "GREETIN"], ["template.env.GREETIN=x"], ["template.secrets.TOKEN=nothing"], []):
        assert run("set", "greeter", *wrong).code == 2, wrong


def test_a_key_without_the_right_is_turned_away(world: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    key = run("key", "create", "eyes", "--role", "viewer").out.strip()
    monkeypatch.setenv("KAON_KEY", key)
    assert run("ps").code == 0
    assert "viewer" in run("whoami").out
    said = run("key", "list")
    assert said.code == 4
    assert "forbidden" in said.err
    monkeypatch.setenv("KAON_KEY", "kaon_nothing")
    assert run("ps").code == 4


def test_workspaces_are_apart(deployed: None, run: Run) -> None:
    assert run("workspace", "create", "team-a", "--description", "Team A").code == 0
    assert run("get", "deployments", "-w", "team-a", "-o", "json").out == "[]\n"
    assert run("get", "deployment", "greeter", "-w", "team-a").code == 3
    assert run("deploy", "greeter.py:Greeter", "-w", "team-a").out.startswith(
        f"greeter answers at {Settings().url}/~team-a/greeter"
    )
    assert run("workspace", "rm", "team-a", "-y").code == 5
    run("rm", "greeter", "-w", "team-a", "-y")
    assert run("workspace", "rm", "team-a", "-y").code == 0
    assert run("workspace", "list", "-o", "name").out.split() == ["default"]
    assert run("ps", "-w", "nowhere").code == 3


APPLIED = """
kind: workspace
name: team-a
---
kind: deployment
name: one
source: greeter.py:Greeter
spec:
  scaling: {min: 2, max: 2}
---
kind: deployment
name: two
workspace: team-a
source: greeter.py:Greeter
spec:
  public: true
  template:
    env: {GREETING: Hi}
"""


def test_apply_makes_what_a_file_says_and_twice_is_once(world: Any, run: Run, project: Path) -> None:
    (project / "kaon.yaml").write_text(APPLIED)
    first = run("apply", "-f", "kaon.yaml")
    assert first.code == 0, first.err
    assert first.out.splitlines() == [
        f"one: Stable at {Settings().url}/one",
        f"two: Stable at {Settings().url}/~team-a/two",
    ]
    again = run("apply", "-f", "kaon.yaml")
    assert again.code == 0
    assert "no change of deployment one" in again.err
    assert json.loads(run("get", "deployment", "one", "-o", "json").out)["generation"] == 1


def test_a_request_to_the_tuner_is_no_change_of_what_is_applied(world: Any, run: Run, project: Path) -> None:
    (project / "kaon.yaml").write_text(APPLIED)
    run("apply", "-f", "kaon.yaml")
    assert run("tune", "one", "--set", "concurrency=4").code == 0
    assert "no change of deployment one" in run("apply", "-f", "kaon.yaml").err


def test_apply_shows_a_change_and_asks(world: Any, run: Run, project: Path) -> None:
    (project / "kaon.yaml").write_text(APPLIED)
    run("apply", "-f", "kaon.yaml")
    (project / "kaon.yaml").write_text(APPLIED.replace("min: 2, max: 2", "min: 1, max: 4"))
    dry = run("apply", "-f", "kaon.yaml", "--dry-run")
    assert "~ scaling.max: 2 -> 4" in dry.out
    assert run("apply", "-f", "kaon.yaml").code == 2
    assert run("apply", "-f", "kaon.yaml", "-y").code == 0
    scaling = json.loads(run("get", "deployment", "one", "-o", "json").out)["spec"]["scaling"]
    assert (scaling["min"], scaling["max"]) == (1, 4)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "no document"),
        ("a: [", "not YAML"),
        ("kind: pod\nname: x\n", "kind"),
        ("kind: deployment\nname: UPPER\n", "name"),
        ("kind: deployment\nname: x\nrole: admin\n", "role"),
        ("kind: deployment\nname: x\n", "has no source"),
        ("kind: deployment\nname: x\nsource: greeter.py:Greeter\nspec: {scaling: {min: 5, max: 1}}\n", "scaling"),
        ("!!python/object/apply:os.system ['touch hacked']\n", "not YAML"),
    ],
)
def test_apply_says_what_is_wrong_with_a_file(world: Any, run: Run, project: Path, text: str, part: str) -> None:
    (project / "kaon.yaml").write_text(text)
    said = run("apply", "-f", "kaon.yaml", "-y")
    assert said.code == 2
    assert part in said.err
    assert not (project / "hacked").exists()


def test_apply_checks_every_document_before_it_builds_any(world: Any, run: Run, project: Path) -> None:
    (project / "kaon.yaml").write_text(
        APPLIED.replace("  scaling: {min: 2, max: 2}", "  scalling: {min: 2, max: 2}")
        + """
---
kind: deployment
name: three
source: gone.py:Greeter
spec:
  objective:
    latency: 0.2
  template:
    env:
      lower: x
---
kind: deploymnt
name: four
"""
    )
    said = run("apply", "-f", "kaon.yaml", "-y")
    assert (said.code, "Building" in said.err) == (2, False), said.err
    for line in (
        "kaon.yaml:9: spec.scalling: no such field. Did you mean scaling?",
        "kaon.yaml:23: source: There is no file",
        "kaon.yaml:26: spec.objective.latency: no such field. Did you mean latency_s?",
        "kaon.yaml:29: spec.template.env.lower: ",
        "kaon.yaml:31: kind: no such kind for a file. Did you mean deployment?",
    ):
        assert line in said.err, said.err
    assert run("get", "deployments", "-o", "name").out == "", "nothing was applied"


def test_build_prints_the_path_and_repeats_itself(run: Run, project: Path) -> None:
    first = run("build", "greeter.py:Greeter")
    assert first.code == 0, first.err
    assert first.out.startswith("dist/greeter-")
    assert run("build", "greeter.py:Greeter").out == first.out
    described = json.loads(run("build", "greeter.py:Greeter", "-o", "json").out)
    assert described["manifest"]["service"]["entry"] == "greeter:Greeter"


def test_a_build_that_fails_says_why(run: Run, project: Path) -> None:
    (project / "greeter.py").write_text("import no_such_module\n" + (project / "greeter.py").read_text())
    said = run("build", "greeter.py:Greeter")
    assert said.code == 1
    assert "no_such_module" in said.err
    assert run("build", "other.py:Greeter").code == 3
    assert run("build", "greeter").code == 2


def test_without_a_platform_it_says_how_to_start_one(run: Run, kaon_home: Path) -> None:
    said = run("ps")
    assert said.code == 7
    assert "kaon up" in said.err
    (kaon_home / "admin.key").write_text("kaon_x")
    said = run("ps")
    assert said.code == 7
    assert "cannot be reached" in said.err


def test_wrong_use_is_exit_code_2(run: Run) -> None:
    assert run("no-such-verb").code == 2
    assert run("logs").code == 2
    assert run("get", "pods").code == 2
    assert run("logs", "x", "--tail", "-1").code == 2
    assert run("ps", "-o", "xml").code == 2


def test_a_wrong_setting_is_told_without_its_value(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAON_PORT", "canary")
    said = run("config", "show")
    assert said.code == 1
    assert "KAON_PORT: " in said.err
    assert "canary" not in said.err


def test_status_and_doctor_say_that_nothing_runs(run: Run) -> None:
    assert run("status").code == 3
    said = run("doctor", "-o", "json")
    findings = {f["check"]: f for f in json.loads(said.out)}
    assert said.code == 0
    assert findings["processes"]["verdict"] == "warn"
    assert findings["processes"]["next"] == "kaon up"


def test_open_prints_where(deployed: None, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER", "true")
    assert run("open", "greeter").out.strip() == f"{Settings().url}/greeter/docs"


def test_ctrl_c_is_exit_code_130(world: Any, project: Path, kaon_home: Path) -> None:
    read, write = os.pipe()
    code = "import sys; from kaon.cli import main; sys.argv = ['kaon', 'secret', 'set', 'x']; main()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=read, stderr=subprocess.DEVNULL)
    try:
        os.write(write, b"v")  # taken as soon as the command reads its value, which has no end yet
        eventually(lambda: not array.array("i", fcntl.ioctl(read, termios.FIONREAD, b"\0" * 4))[0], "it is read")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()
        os.close(read)
        os.close(write)


def test_a_build_that_leaves_a_lock_in_the_project_says_so(run: Run, project: Path) -> None:
    first = run("build", "greeter.py:Greeter")
    assert "requirements.lock" not in first.err
    assert not (project / "requirements.lock").exists()
    (project / "requirements.txt").write_text("typing-extensions\n")
    second = run("build", "greeter.py:Greeter")
    assert f"Wrote {project / 'requirements.lock'}" in second.err, second.err
    assert "Wrote" not in run("build", "greeter.py:Greeter").err


def test_what_cannot_be_a_key_is_an_error_of_the_key_and_not_shown(
    world: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAON_KEY", "canary\nof two lines")
    said = run("ps")
    assert said.code == 4
    assert "canary" not in said.err


def test_open_needs_a_name(run: Run) -> None:
    assert run("open").code == 2


def test_a_refused_call_says_what_is_wrong_where() -> None:
    error = InvalidInput("It does not fit.", errors=[{"where": "body.names", "problem": "is required"}])
    assert "  body.names: is required" in failure(error).splitlines()


def test_a_traceback_in_the_logs_is_lines(
    deployed: None, world: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = json.dumps({"event": "the handler failed", "request_id": "r1", "exception": "Traceback\n  x\nKeyError: 1\n"})
    monkeypatch.setattr(sys.modules[type(world).__module__], "LINES", (line,))
    assert run("logs", "greeter").out.splitlines() == [
        "-             greeter-1-0           the handler failed  [r1]",
        "    Traceback",
        "      x",
        "    KeyError: 1",
    ]
    assert json.loads(run("logs", "greeter", "-o", "json").out)["text"] == line


def test_following_ends_when_nobody_reads_though_nothing_comes() -> None:
    program = (
        "import threading\n"
        "from kaon.cli.shared.broken_pipe import until_reader_ends\n"
        "print('one', flush=True)\n"
        "try:\n"
        "    with until_reader_ends():\n"
        "        threading.Event().wait(30)\n"
        "except BrokenPipeError:\n"
        "    raise SystemExit(7)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"one\n"
    process.stdout.close()
    assert process.wait(20) == 7


def test_a_deploy_while_rollouts_are_held_says_so(deployed: None, run: Run) -> None:
    run("rollout", "pause", "greeter")
    said = run("deploy", "greeter.py:Greeter", "--env", "GREETING=Yo")
    assert said.code == 0, said.err
    assert "kaon rollout resume greeter" in said.err
