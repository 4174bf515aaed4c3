import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from kaon.client import local
from kaon.settings import Settings


def test_defaults_are_loopback_and_sqlite_under_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [n for n in os.environ if n.startswith("KAON_")]:
        monkeypatch.delenv(name)
    settings = Settings(home=tmp_path)
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert settings.database == f"sqlite:///{tmp_path}/server/kaon.db"
    assert settings.url == "http://127.0.0.1:8080"


def test_the_environment_is_read_once_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAON_PORT", "9000")
    settings = Settings()
    assert settings.port == 9000
    monkeypatch.setenv("KAON_PORT", "0")
    with pytest.raises(ValidationError):
        Settings()
    assert settings.port == 9000


def test_sockets_fit_into_a_socket_address_however_deep_the_home(tmp_path: Path) -> None:
    deep = Settings(home=tmp_path / ("x" * 90) / ("y" * 90))
    longest = deep.run_dir / "replicas" / "0123456789ab" / "control.sock"
    assert len(os.fsencode(longest)) <= 107
    assert deep.run_dir != Settings(home=tmp_path / ("x" * 90) / ("z" * 90)).run_dir


def test_a_secret_key_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAON_SECRET_KEY", "canary-canary")
    assert "canary" not in repr(Settings())


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"KAON_HOST": "10.0.0.7", "KAON_PORT": "9"},
        {"KAON_HOST": "0.0.0.0"},
        {"KAON_HOST": "::"},
        {"KAON_HOME": "/x"},
    ],
)
def test_the_client_finds_the_platform_of_this_machine_where_its_settings_say(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KAON_HOST", "KAON_PORT", "KAON_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert local.url() == Settings().url
    if "KAON_HOME" in variables:
        assert local.admin_key_file() == Settings().admin_key_file
    else:
        assert local.admin_key_file() == Path.home() / ".kaon/admin.key"
