"""Settings and flags that are wrong are refused before anything is built or uploaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kaon.cli.shared.settings import check_settings, without
from kaon.errors import InvalidInput
from kaon.types.deployment import Template
from kaon.types.service import ServiceSpec, SettingSpec

SERVICE = ServiceSpec(
    name="shop",
    entry="shop:Shop",
    settings=(
        SettingSpec(name="API_TOKEN", required=True, type="str"),
        SettingSpec(name="TOP_K", required=False, type="int", default="10"),
        SettingSpec(name="WEIGHTS", required=False, type="list[float]", default="[]"),
    ),
)


def template(secrets: dict[str, str] | None = None, **env: str) -> Template:
    return Template(artifact=f"sha256:{'0' * 64}", env=env, secrets=secrets or {})


@pytest.mark.parametrize(
    "good",
    [
        template(API_TOKEN="x"),
        template({"API_TOKEN": "shop-token"}, TOP_K="5"),
        template(API_TOKEN="x", WEIGHTS="not checked here", HF_HOME="/models", LOG_LEVEL="debug"),
    ],
)
def test_settings_that_fit_pass_and_so_do_variables_of_libraries(good: Template) -> None:
    check_settings(SERVICE, good)


@pytest.mark.parametrize(
    ("wrong", "where", "part"),
    [
        (template(), "API_TOKEN", "required setting (str) is missing"),
        (template(API_TOKEN="x", TOP_K="many"), "TOP_K", "'many' is not valid"),
        (template(API_TOKEN="x", TOPK="5"), "TOPK", "Did you mean TOP_K?"),
        (template(API_TOKEM="x"), "API_TOKEM", "Did you mean API_TOKEN?"),
    ],
)
def test_settings_that_are_missing_wrong_or_misspelt_are_listed(wrong: Template, where: str, part: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_settings(SERVICE, wrong)
    assert any(entry["where"] == where and part in entry["message"] for entry in refused.value.errors)


def test_one_setting_or_secret_is_removed_and_one_that_is_not_set_gets_a_suggestion() -> None:
    members = template({"TOKEN": "t"}, A="1", B="2").model_dump()
    left = without(members, ["A", "TOKEN"])
    assert (left["env"], left["secrets"]) == ({"B": "2"}, {})
    assert members["env"] == {"A": "1", "B": "2"}, "the current template is not changed"
    with pytest.raises(InvalidInput) as refused:
        without(members, ["TOKEM"])
    assert refused.value.hint == "Did you mean TOKEN?"


@pytest.mark.parametrize(
    "flags",
    [
        ["--min", "5", "--max", "2"],
        ["--canary", "50,5"],
        ["--set", "scaling.maxx=1"],
        ["--unset", "NOTHING"],
        ["--shadow", "10"],
    ],
)
def test_wrong_flags_are_refused_before_the_build(world: Any, run: Any, project: Path, flags: list[str]) -> None:
    said = run("deploy", "greeter.py:Greeter", *flags)
    assert (said.code, "Building" in said.err) == (2, False), said.err


def test_wrong_settings_are_refused_before_the_upload(world: Any, run: Any, project: Path) -> None:
    said = run("deploy", "greeter.py:Greeter", "--env", "GREETNG=Hi")
    assert (said.code, "Did you mean GREETING?" in said.err, "Uploading" in said.err) == (2, True, False), said.err


def test_deploy_can_remove_one_setting(world: Any, run: Any, project: Path) -> None:
    run("deploy", "greeter.py:Greeter", "--env", "GREETING=Hi", "--env", "OTHER=1")
    said = run("deploy", "greeter.py:Greeter", "--unset", "GREETING")
    assert said.code == 0, said.err
    assert "- template.env.GREETING: Hi" in said.err
    assert "OTHER" not in said.err
