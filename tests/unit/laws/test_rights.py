from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaon.laws.rights import EffectiveRights, effective_rights, grantable
from kaon.types.key import RIGHTS, KeySpec, KeyStatus, Priority, Right, Role
from kaon.types.resource import Key

NOW = 1000.0


def spec(role: Role = Role.EDITOR, **fields: Any) -> KeySpec:
    return KeySpec(hash="0" * 64, hint="kaon_", role=role, **fields)


def key(uid: str, role: Role = Role.EDITOR, *, revoked_at: float | None = None, **fields: Any) -> Key:
    return Key(
        kind="key",
        workspace="default",
        name=uid,
        uid=uid,
        version=1,
        generation=1,
        created_at=0,
        updated_at=0,
        spec=spec(role, **fields),
        status=KeyStatus(revoked_at=revoked_at),
    )


def stand(*line: Key, now: float = NOW) -> EffectiveRights:
    return effective_rights(line[0], {k.uid: k for k in line}, now)


def test_a_key_of_the_platform_has_its_roles_rights() -> None:
    held = stand(key("k", workspace="shop"))
    assert held.rights == RIGHTS[Role.EDITOR]
    assert held.may(Right.WRITE, "shop")
    assert not held.may(Right.WRITE, "default")
    assert not held.may(Right.ADMIN, "shop")


def test_revoked_and_expired_keys_have_nothing() -> None:
    assert stand(key("k", revoked_at=1.0)) == EffectiveRights(lapsed="revoked")
    assert stand(key("k", expires_at=NOW)) == EffectiveRights(lapsed="expired")
    assert not stand(key("k", expires_at=NOW + 1)).lapsed


def test_what_the_owner_lost_is_lost() -> None:
    child = key("child", Role.EDITOR, workspace="shop", owner_uid="boss")
    assert stand(child, key("boss", Role.VIEWER, workspace="shop")).rights == {Right.READ, Right.JOBS}
    assert "revoked" in stand(child, key("boss", Role.ADMIN, revoked_at=1.0)).lapsed
    assert "expired" in stand(child, key("boss", Role.ADMIN, expires_at=1.0)).lapsed
    assert stand(child, key("boss", Role.ADMIN, workspace="other")).lapsed
    assert stand(child).lapsed == "the key that made it was deleted"
    scoped = key("boss", Role.ADMIN, workspace="shop", deployments=("web",))
    assert stand(child, scoped).deployments == {"web"}


def test_it_ends_with_the_first_of_its_line_that_ends() -> None:
    child = key("child", workspace="shop", owner_uid="boss", expires_at=3000.0)
    assert stand(child, key("boss", Role.ADMIN, expires_at=2000.0)).expires_at == 2000.0


def test_only_an_admin_of_all_workspaces_makes_keys_of_agents() -> None:
    agent = key("agent", Role.AGENT, cloud="local", owner_uid="boss")
    assert stand(agent, key("boss", Role.ADMIN)).rights == {Right.AGENT}
    assert not stand(agent, key("boss", Role.ADMIN, workspace="shop")).rights
    assert not stand(agent, key("boss", Role.EDITOR)).rights


def test_keys_that_made_one_another_in_a_ring_give_nothing() -> None:
    assert stand(key("a", owner_uid="b"), key("b", owner_uid="a")).lapsed


roles = st.sampled_from([Role.ADMIN, Role.EDITOR, Role.VIEWER, Role.CALLER])
places = st.sampled_from([None, "shop", "other"])
lists = st.sampled_from([None, ("web",), ("web", "api-x"), ("other",)])
specs = st.builds(spec, roles, workspace=places, deployments=lists)


@given(st.lists(specs, min_size=1, max_size=5))
def test_no_key_may_do_more_than_any_of_its_owners(line: list[KeySpec]) -> None:
    keys = [
        key(str(n), s.role, workspace=s.workspace, deployments=s.deployments, owner_uid=str(n + 1))
        for n, s in enumerate(line[:-1])
    ]
    last = line[-1]
    keys.append(key(str(len(keys)), last.role, workspace=last.workspace, deployments=last.deployments))
    held = stand(*keys)
    alone = [stand(k.model_copy(update={"spec": k.spec.model_copy(update={"owner_uid": ""})})) for k in keys]
    for right in Right:
        for workspace in ("shop", "other", "default"):
            for deployment in (None, "web", "api-x", "other"):
                if held.may(right, workspace, deployment):
                    assert all(a.may(right, workspace, deployment) for a in alone)


@given(specs, specs)
def test_what_may_be_granted_is_what_it_stands_for_afterwards(holder: KeySpec, wanted: KeySpec) -> None:
    boss = key("boss", holder.role, workspace=holder.workspace, deployments=holder.deployments)
    if not grantable(stand(boss), wanted):
        return
    child = key("child", wanted.role, workspace=wanted.workspace, deployments=wanted.deployments, owner_uid="boss")
    held = stand(child, boss)
    assert held.rights == RIGHTS[wanted.role]
    assert held.workspace == wanted.workspace
    assert held.deployments == (None if wanted.deployments is None else frozenset(wanted.deployments))


def test_who_is_low_makes_low_keys_only_and_what_it_made_is_low() -> None:
    high, normal, low = (key(str(p), Role.ADMIN, priority=p) for p in Priority)
    wanted = {p: spec(Role.CALLER, priority=p) for p in Priority}
    assert [grantable(stand(low), wanted[p]) for p in Priority] == [False, False, True]
    assert all(grantable(stand(holder), wanted[p]) for holder in (high, normal) for p in Priority)
    child = key("child", Role.CALLER, priority=Priority.HIGH, owner_uid=low.uid)
    assert stand(child, low).priority is Priority.LOW


@pytest.mark.parametrize(
    ("holder", "wanted"),
    [
        (spec(Role.EDITOR), spec(Role.ADMIN)),
        (spec(Role.ADMIN, workspace="shop"), spec(Role.VIEWER)),
        (spec(Role.ADMIN, workspace="shop"), spec(Role.VIEWER, workspace="other")),
        (spec(Role.ADMIN, workspace="shop", deployments=("web",)), spec(Role.CALLER, workspace="shop")),
        (spec(Role.ADMIN, workspace="shop"), spec(Role.AGENT, cloud="local")),
        (spec(Role.ADMIN), spec(Role.ADMIN)),
    ],
)
def test_no_key_makes_one_with_more_rights(holder: KeySpec, wanted: KeySpec) -> None:
    boss = key("boss", holder.role, workspace=holder.workspace, deployments=holder.deployments)
    is_less = (holder, wanted) == (spec(Role.ADMIN), spec(Role.ADMIN))
    assert grantable(stand(boss), wanted) is is_less
