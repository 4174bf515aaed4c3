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
