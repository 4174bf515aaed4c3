"""Secrets at rest, and the key that encrypts them."""

from __future__ import annotations

import base64
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kaon.errors import ConfigError
from kaon.settings import Settings
from kaon.store.vault import Vault, load_key


def settings(home: Path, key: str | None = None) -> Settings:
    return Settings(home=home, secret_key=key)


def test_a_sealed_secret_opens_again_and_shows_nothing() -> None:
    vault = Vault(os.urandom(32))
    sealed = vault.seal("default", "token", "hunter2 密码")
    assert vault.open("default", "token", sealed) == "hunter2 密码"
    assert b"hunter2" not in base64.b64decode(sealed.ciphertext)
    assert vault.seal("default", "token", "hunter2 密码").ciphertext != sealed.ciphertext


@pytest.mark.parametrize(("workspace", "name"), [("other", "token"), ("default", "other"), ("default/token", "")])
def test_a_secret_that_was_moved_does_not_open(workspace: str, name: str) -> None:
    vault = Vault(bytes(32))
    sealed = vault.seal("default", "token", "hunter2")
    with pytest.raises(ConfigError, match="was changed"):
        vault.open(workspace, name, sealed)


@pytest.mark.parametrize("ciphertext", ["", "AAAA", "not base64!", base64.b64encode(bytes(64)).decode()])
def test_a_secret_that_was_tampered_with_does_not_open(ciphertext: str) -> None:
    vault = Vault(bytes(32))
    sealed = vault.seal("default", "token", "hunter2").model_copy(update={"ciphertext": ciphertext})
    with pytest.raises(ConfigError, match="was changed"):
        vault.open("default", "token", sealed)


def test_the_error_with_another_key_names_the_missing_one() -> None:
    old, new = Vault(bytes(32)), Vault(bytes([1]) * 32)
    with pytest.raises(ConfigError, match=f"encrypted with key {old.key_id}, but the current key is {new.key_id}"):
        new.open("default", "token", old.seal("default", "token", "hunter2"))


def test_the_key_file_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with ThreadPoolExecutor(8) as threads:
        keys = set(threads.map(lambda _: load_key(settings(home)), range(8)))
    assert len(keys) == 1
    assert len(keys.pop()) == 32
    assert (home / "secret.key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in home.iterdir()] == ["secret.key"]


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    load_key(settings(tmp_path))
    (tmp_path / "secret.key").chmod(0o640)
    with pytest.raises(ConfigError, match="is readable for other users") as refused:
        load_key(settings(tmp_path))
    assert "chmod 600" in refused.value.hint


def test_the_environment_comes_first(tmp_path: Path) -> None:
    key = os.urandom(32)
    assert load_key(settings(tmp_path, base64.b64encode(key).decode())) == key
    assert not (tmp_path / "secret.key").exists()


@pytest.mark.parametrize("text", ["short", base64.b64encode(bytes(16)).decode(), "!" * 44])
def test_what_is_no_key_is_refused_without_being_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="32 bytes in base64") as refused:
        load_key(settings(tmp_path, text))
    assert text not in refused.value.cause + refused.value.hint
