"""`kaon audit`, and changes that are made to what was shown or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kaon.cli.audit import audit_table
from kaon.cli.shared.output import Format, table_text
from kaon.cli.shared.remote import Remote, opened
from kaon.errors import Conflict
from kaon.types.audit import ActorKind, AuditRecord, Outcome
from kaon.types.deployment import Scaling

from .conftest import Kaon

NOW = 1_700_000_000.0
RECORDS = [
    AuditRecord(id=1, at=NOW - 90_000, actor="admin", verb="create", kind="key", name="ci", address="local"),
    AuditRecord(
        id=2, at=NOW - 120, actor="ci", verb="put", kind="artifact", name=f"sha256:{'0' * 64}", address="192.0.2.7"
    ),
    AuditRecord(
        id=3, at=NOW - 60, actor="deployments", actor_kind=ActorKind.CONTROLLER, verb="create", kind="revision"
    ),
    AuditRecord(
        id=4,
        at=NOW - 5,
        actor="somebody-who-looks",
        verb="scale",
        kind="deployment",
        name="recommendations-eu",
        address="2001:db8::1",
        outcome=Outcome.REFUSED,
    ),
]


@pytest.mark.parametrize("columns", [80, 120])
def test_records_fit_the_terminal(columns: int) -> None:
    lines = table_text(RECORDS, audit_table(NOW), Format.TABLE, columns).split("\n")
    assert len(lines) >= 5
    assert max(map(len, lines)) <= columns
    text = " ".join(lines)
    for word in ("admin", "key/ci", "192.0.2.7", "(controller)", "(refused)", "2m"):
        assert word in text


@pytest.mark.usefixtures("deployed")
def test_who_changed_what_is_listed_the_newest_last(run: Kaon) -> None:
    assert run("scale", "greeter", "2", "--no-wait").code == 0
    assert run("rollout", "pause", "greeter").code == 0
    listed = run("audit", "greeter")
    assert listed.code == 0
    assert [line.split()[2] for line in listed.out.strip().split("\n")[1:]] == ["put", "scale", "pause"]
    found = json.loads(run("audit", "--kind", "deployments", "--verb", "scale", "--since", "1h", "-o", "json").out)
    assert [(r["verb"], r["name"], r["address"]) for r in found] == [("scale", "greeter", "local")]
    assert found[0]["before"] != found[0]["after"]
    assert json.loads(run("audit", "--actor", "nobody", "-o", "json").out) == []
    assert len(run("audit", "--limit", "1", "-o", "name").out.split()) == 1
    assert "artifact/sha256:" in run("audit", "--everywhere").out


@pytest.fixture
def changed_meanwhile(deployed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else scales the deployment after each look that the command takes at it."""
    look = Remote.deployment

    def looked(self: Remote, name: str) -> object:
        seen = look(self, name)
        with opened() as other:
            other.scale(look(other, name), Scaling(min=seen.generation + 1, max=seen.generation + 9))
        return seen

    monkeypatch.setattr(Remote, "deployment", looked)


@pytest.mark.usefixtures("changed_meanwhile")
@pytest.mark.parametrize(
    "command",
    [
        ("scale", "greeter", "3", "-y", "--no-wait"),
        ("set", "greeter", "public=true", "-y", "--no-wait"),
        ("rm", "greeter", "-y"),
        ("rollout", "restart", "greeter", "--no-wait"),
        ("rollout", "pause", "greeter"),
        ("rollout", "resume", "greeter"),
        ("rollout", "shadow", "greeter", "--off"),
    ],
    ids=" ".join,
)
def test_a_command_overwrites_nothing_that_was_changed_since_it_looked(run: Kaon, command: tuple[str, ...]) -> None:
    said = run(*command)
    assert said.code == Conflict.exit_code, said
    assert "was changed since you read it, by key" in said.err
    assert "kaon audit greeter" in said.err


@pytest.mark.usefixtures("changed_meanwhile")
def test_apply_and_deploy_overwrite_nothing_either(run: Kaon, project: object) -> None:
    document = "kind: deployment\nname: greeter\nspec:\n  public: true\n"
    Path("kaon.yaml").write_text(document)
    said = run("apply", "-f", "kaon.yaml", "-y", "--no-wait")
    assert said.code == Conflict.exit_code
    assert "was changed since you read it, by key" in said.err
