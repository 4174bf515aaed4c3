from pathlib import Path

import pytest

from kaon.client.address import find
from kaon.errors import InvalidInput


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KAON_EDGE_URL", "KAON_KEY", "KAON_PORT", "KAON_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAON_HOME", str(tmp_path))
    (tmp_path / "admin.key").write_text("kaon_admin\n")


def test_a_name_is_a_deployment_of_this_machine_with_its_admin_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAON_PORT", "9999")
    assert (find("shop", environ={}).url, find("shop", environ={}).key) == ("http://127.0.0.1:9999/shop", "kaon_admin")
    assert find("~team/shop", environ={}).url == "http://127.0.0.1:9999/~team/shop"


def test_in_a_replica_a_name_is_a_deployment_of_its_platform() -> None:
    environ = {"KAON_EDGE_URL": "https://edge.example/", "KAON_KEY": "kaon_mine"}
    here = find("shop", environ=environ)
    assert (here.url, here.key) == ("https://edge.example/shop", "kaon_mine")


@pytest.mark.parametrize("url", ["https://edge.example.evil.org/shop", "https://other.example/shop"])
def test_a_replicas_key_never_leaves_its_platform(url: str) -> None:
    environ = {"KAON_EDGE_URL": "https://edge.example", "KAON_KEY": "kaon_mine"}
    assert find(url, environ=environ).key == ""


def test_the_admin_key_never_leaves_this_machine() -> None:
    assert find("https://other.example/shop", environ={}).key == ""
    assert find("http://localhost:8080/shop/", environ={}) == find("http://localhost:8080/shop", environ={})
    assert find("http://localhost:8080/shop", environ={}).key == "kaon_admin"


def test_what_is_given_goes_first() -> None:
    assert find("https://other.example/shop", "kaon_given", environ={}).key == "kaon_given"
    assert find("https://other.example/shop", environ={"KAON_KEY": "kaon_env"}).key == "kaon_env"
    assert find("shop", "", environ={}).key == ""


@pytest.mark.parametrize("target", ["", "a b", "ftp://x/y", "http://", "http://x/y?z=1", "file:///etc/passwd"])
def test_what_is_neither_url_nor_name_is_refused(target: str) -> None:
    with pytest.raises(InvalidInput):
        find(target, environ={})


CONTEXTS = """
{"current": "production", "contexts": {"production":
  {"url": "https://ai.example.com/", "key_file": "KEY", "workspace": "team-a"}}}
"""


@pytest.fixture
def production(tmp_path: Path) -> None:
    (tmp_path / "production.key").write_text("kaon_production\n")
    (tmp_path / "contexts.json").write_text(CONTEXTS.replace("KEY", str(tmp_path / "production.key")))


def test_a_name_is_a_deployment_of_the_context_in_use(production: None) -> None:
    found = find("shop", environ={})
    assert (found.url, found.key) == ("https://ai.example.com/~team-a/shop", "kaon_production")
    assert find("~other/shop", environ={}).url == "https://ai.example.com/~other/shop"
    local = find("shop", environ={"KAON_CONTEXT": "local"})
    assert (local.url, local.key) == ("http://127.0.0.1:8080/shop", "kaon_admin")


def test_variables_take_precedence_over_the_context(production: None) -> None:
    environ = {"KAON_URL": "https://b.example", "KAON_WORKSPACE": "x", "KAON_KEY": "kaon_env"}
    found = find("shop", environ=environ)
    assert (found.url, found.key) == ("https://b.example/~x/shop", "kaon_env")


@pytest.mark.parametrize(
    "url", ["https://ai.example.com.evil.org/shop", "https://evil.org/https://ai.example.com/", "https://ai.example/x"]
)
def test_a_contexts_key_never_leaves_its_platform(production: None, url: str) -> None:
    assert find(url, environ={}).key == ""
    assert find("https://ai.example.com/shop", environ={}).key == "kaon_production"
    assert find("http://127.0.0.1:8080/shop", environ={}).key == "kaon_admin"


def test_a_context_without_a_readable_key_calls_public_deployments(production: None, tmp_path: Path) -> None:
    (tmp_path / "production.key").unlink()
    assert find("shop", environ={}).key == ""
