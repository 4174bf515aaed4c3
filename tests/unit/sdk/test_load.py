import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaon.errors import ConfigError
from kaon.sdk.load import load

SERVICE = """
import kaon


@kaon.service
class {name}:
    @kaon.endpoint
    def f(self) -> None: ...
"""


@pytest.fixture(autouse=True)
def _modules_are_forgotten() -> Iterator[None]:
    path, known = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def test_a_file_and_class_are_loaded(tmp_path: Path) -> None:
    (tmp_path / "one_file.py").write_text(SERVICE.format(name="One") + SERVICE.format(name="Two"))
    service = load("one_file.py:Two", tmp_path)
    assert (service.name, service.entry) == ("two", "one_file:Two")


def test_a_module_of_a_package_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "shop_a").mkdir()
    (tmp_path / "shop_a/__init__.py").touch()
    (tmp_path / "shop_a/serving.py").write_text(SERVICE.format(name="One"))
    assert load("shop_a.serving:One", tmp_path).entry == "shop_a.serving:One"
    assert load("shop_a/serving.py", tmp_path).entry == "shop_a.serving:One"


@pytest.mark.parametrize(
    ("target", "expected", "hint"),
    [
        ("", "has no module", "file.py:Class"),
        ("nowhere.py:One", "There is no file nowhere.py", "file.py:Class"),
        ("nowhere_at_all:One", "There is no module nowhere_at_all", "file.py:Class"),
        ("../outside.py:One", "is outside", "folder"),
        ("two_services.py", "There are 2 services", "two_services.py:One, two_services.py:Two"),
        ("two_services.py:Three", "There is no class `Three`", "There is two_services.py:One"),
        ("two_services.py:Plain", "`Plain` is not a service", "@kaon.service"),
        ("empty_one.py", "There is no service", "@kaon.service"),
        ("broken_one.py:One", "syntax error in line 1", ""),
        ("needy_one.py:One", "needs the package surely_not_there", "requirements"),
        ("not-a-name.py:One", "is not a valid module name", "underscores"),
    ],
)
def test_what_cannot_be_loaded_is_refused_with_what_to_type(
    tmp_path: Path, target: str, expected: str, hint: str
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    (tmp_path / "outside.py").touch()
    (folder / "two_services.py").write_text(
        SERVICE.format(name="One") + SERVICE.format(name="Two") + "\n\nclass Plain: ...\n"
    )
    (folder / "empty_one.py").touch()
    (folder / "broken_one.py").write_text("def (:\n")
    (folder / "needy_one.py").write_text("import surely_not_there\n")
    (folder / "not-a-name.py").touch()
    with pytest.raises(ConfigError) as error:
        load(target, folder)
    assert expected in error.value.cause
    assert hint in error.value.hint
