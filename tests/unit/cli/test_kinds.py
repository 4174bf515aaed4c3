"""A kind that one file declares has everything: routes, client, commands, documents, reference."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.toy_kind import KIND, ToySpec

from kaon.api.app import routes
from kaon.api.openapi import document
from kaon.cli.shared.remote import opened
from kaon.errors import Conflict, NotFound
from kaon.types.kinds import KINDS

APPLIED = """
kind: toy
name: robot
spec: {colour: blue}
---
kind: toy
name: ball
"""


WITH_TOYS = """
from kaon.cli.root import main
from kaon.types.kinds import KINDS
from tests.toy_kind import KIND
KINDS[KIND.name] = KIND
main()
"""


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, KIND.name, KIND)
    monkeypatch.setattr("kaon.api.app.ROUTES", routes())


@pytest.fixture
def world(toys: None, world: Any) -> Any:
    """The platform, made when the kind was there."""
    return world


def test_the_client_puts_reads_lists_and_deletes(world: Any) -> None:
    with opened() as remote:
        made = remote.put_resource(KIND, "robot", ToySpec(colour="blue", maker="me"))
        assert (made.name, made.spec.colour, made.generation) == ("robot", "blue", 1)
        assert not hasattr(made.spec, "maker")
        changed = remote.put_resource(KIND, "robot", ToySpec(colour="black"), made.version)
        with pytest.raises(Conflict):
            remote.put_resource(KIND, "robot", ToySpec(), made.version)
        with pytest.raises(Conflict, match="stays black"):
            remote.put_resource(KIND, "robot", ToySpec(), changed.version)
        remote.put_resource(KIND, "ball", ToySpec())
        assert [toy.name for toy in remote.resources(KIND)] == ["ball", "robot"]
        assert [toy.name for toy in remote.resources(KIND, colour="black")] == ["robot"]
        assert [toy.name for toy in remote.resources(KIND, prefix="b")] == ["ball"]
        assert [toy.name for toy in remote.resources(KIND, 1)] == ["ball"]
        remote.delete_resource(KIND, "robot")
        with pytest.raises(NotFound):
            remote.resource(KIND, "robot")
        reasons = [event.reason for event in remote.events("toy", "robot")]
    assert reasons == ["Created", "Changed", "Deleted"]


def test_no_more_of_them_than_a_workspace_may_have(world: Any) -> None:
    with opened() as remote:
        for number in range(KIND.most):
            remote.put_resource(KIND, f"toy-{number}", ToySpec())
        with pytest.raises(Conflict, match="50 toys at most"):
            remote.put_resource(KIND, "one-more", ToySpec())


def test_commands_know_it_by_all_its_names(world: Any, run: Any, kaon_home: Path) -> None:
    Path("toys.yaml").write_text(APPLIED)
    said = run("apply", "-f", "toys.yaml", "-y")
    assert said.code == 0, said.err
    assert "create toy robot" in said.err
    for word in ("toy", "toys", "plaything"):
        lines = run("get", word).out.splitlines()
        assert lines[0].split() == ["NAME", "COLOUR", "AGE"]
        assert [line.split()[:2] for line in lines[1:]] == [["ball", "red"], ["robot", "blue"]]
    assert "FINISHED" in run("get", "toys", "-o", "wide").out.splitlines()[0]
    assert run("get", "toys", "-o", "name").out.split() == ["ball", "robot"]
    assert run("get", "toys", "-o", "name", "--filter", "colour=blue").out.split() == ["robot"]
    assert run("get", "toys", "--filter", "taste=sweet").code == 2
    assert run("get", "toys", "-o", "name", "--limit", "1").out.split() == ["ball"]
    found = yaml.safe_load(run("get", "toy", "robot", "-o", "yaml").out)
    assert found["spec"] == {"colour": "blue"}
    page = run("describe", "toy", "robot").out
    assert all(part in page for part in ("colour:", "blue", "events", "Created")), page
    assert run("rm", "toy", "robot", "-y").code == 0
    assert run("get", "toy", "robot").code == 3


def test_applying_again_changes_nothing_and_something_else_is_asked_about(world: Any, run: Any) -> None:
    Path("toys.yaml").write_text(APPLIED)
    run("apply", "-f", "toys.yaml", "-y")
    assert "no change of toy robot" in run("apply", "-f", "toys.yaml", "-y").err
    Path("toys.yaml").write_text(APPLIED.replace("blue", "green"))
    assert run("apply", "-f", "toys.yaml").code == 2, "nobody said yes"
    assert "~ colour: blue -> green" in run("apply", "-f", "toys.yaml", "-y").err
    Path("toys.yaml").write_text(APPLIED.replace("blue", "[1]"))
    assert "spec.colour" in run("apply", "-f", "toys.yaml", "-y").err


def test_the_document_of_the_api_has_it(toys: None) -> None:
    made = document(routes())
    paths = {path for path in made["paths"] if "/toys" in path}
    assert paths == {"/api/v1/workspaces/{ws}/toys", "/api/v1/workspaces/{ws}/toys/{name}"}
    assert set(made["paths"]["/api/v1/workspaces/{ws}/toys/{name}"]) == {"get", "put", "delete"}
    assert "maker" not in json.dumps(made["paths"]["/api/v1/workspaces/{ws}/toys"]["get"])


def test_a_watch_tells_what_there_is_and_every_change(world: Any) -> None:
    with opened() as remote, opened() as other:
        remote.put_resource(KIND, "ball", ToySpec())
        changes = remote.watch(KIND)
        assert [(c.what, c.view and c.view.name) for c in itertools.islice(changes, 2)] == [
            ("added", "ball"),
            ("synced", None),
        ]
        other.put_resource(KIND, "robot", ToySpec(colour="blue", maker="me"))
        added = next(changes)
        assert (added.what, added.view.name, added.view.spec.model_dump()) == ("added", "robot", {"colour": "blue"})
        other.put_resource(KIND, "robot", ToySpec(colour="green"))
        changed = next(changes)
        assert (changed.what, changed.view.spec.colour) == ("changed", "green")
        other.delete_resource(KIND, "ball")
        deleted = next(changes)
        assert (deleted.what, deleted.view.name) == ("deleted", "ball")
        changes.close()


def test_a_command_watches_until_reader_ends(world: Any, kaon_home: Path) -> None:
    with opened() as remote:
        remote.put_resource(KINDS["toy"], "ball", ToySpec())
    command = [sys.executable, "-c", WITH_TOYS, "get", "toys", "--watch", "-o", "json"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as said:
        assert said.stdout is not None
        assert json.loads(said.stdout.readline())["view"]["name"] == "ball"
        with opened() as remote:
            remote.put_resource(KINDS["toy"], "robot", ToySpec())
        line = json.loads(said.stdout.readline())
        assert (line["change"], line["view"]["name"]) == ("added", "robot")
        said.stdout.close()
        assert said.wait(60) == 0
