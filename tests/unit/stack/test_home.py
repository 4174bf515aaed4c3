from __future__ import annotations

from pathlib import Path

import pytest

from kaon.errors import ConfigError
from kaon.settings import Settings
from kaon.stack.home import FOLDERS, SECRETS, refuse_loose
from kaon.stack.up import up


@pytest.fixture
def home(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    for name in FOLDERS:
        (tmp_path / name).mkdir(mode=0o700, exist_ok=True)
    for name in SECRETS:
        (tmp_path / name).touch(mode=0o600)
    refuse_loose(Settings(home=tmp_path))
    return tmp_path


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
@pytest.mark.parametrize("name", FOLDERS)
def test_a_home_that_others_may_write_to_is_refused_with_the_command(home: Path, name: str, mode: int) -> None:
    (home / name).chmod(mode)
    with pytest.raises(ConfigError, match="Others may write to") as refused:
        up(Settings(home=home))
    assert refused.value.hint == f"Run: chmod go-w {home / name}"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_that_others_may_read_is_refused_with_the_command(home: Path, name: str, mode: int) -> None:
    (home / name).chmod(mode)
    with pytest.raises(ConfigError, match="Others may read") as refused:
        up(Settings(home=home))
    assert refused.value.hint == f"Run: chmod go-rwx {home / name}"
