"""Which classes of a folder are services."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaon.build.services import find_services
from kaon.errors import BuildError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def write(folder: Path, path: str, text: str) -> None:
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def found(folder: Path) -> list[tuple[str, str]]:
    return [(service.target, service.name) for service in find_services(folder)]


@pytest.mark.parametrize(
    "text",
    [
        "import kaon\n@kaon.service\nclass MyShop: ...",
        "import kaon\n@kaon.service(objective=None)\nclass MyShop: ...",
        "import kaon as k\n@k.service\nclass MyShop: ...",
        "import kaon.testing\n@kaon.service\nclass MyShop: ...",
        "from kaon import endpoint, service\n@service\nclass MyShop: ...",
        "from kaon import service as svc\n@svc(name='my-shop')\nclass MyShop: ...",
        "try:\n    import kaon\nfinally: pass\nclass Base: ...\n@kaon.service\nclass MyShop(Base): ...",
    ],
)
def test_a_class_is_found_by_its_decorator(folder: Path, text: str) -> None:
    write(folder, "shop.py", text)
    assert found(folder) == [("shop.py:MyShop", "my-shop")]


@pytest.mark.parametrize(
    "text",
    [
        "import kaon\nclass Shop: ...",
        "import kaon\n@kaon.endpoint\nclass Shop: ...",
        "import other as kaon_\n@kaon_.service\nclass Shop: ...",
        "from other import service\nimport kaon\n@service\nclass Shop: ...",
        "import kaon\ndef make():\n    @kaon.service\n    class Shop: ...",
        "import kaon\n@kaon.service.more\nclass Shop: ...",
    ],
)
def test_other_classes_are_not(folder: Path, text: str) -> None:
    write(folder, "shop.py", text)
    assert found(folder) == []


def test_what_is_not_packed_is_not_looked_at_and_tests_define_fakes(folder: Path) -> None:
    service = "import kaon\n@kaon.service\nclass {}: ..."
    write(folder, "b.py", service.format("One") + "\n@kaon.service(name='zwei')\nclass Two: ...")
    write(folder, "app/a.py", service.format("Three"))
    write(folder, ".gitignore", "old/\n")
    write(folder, "venv/pyvenv.cfg", "")
    hidden = ("old/c.py", "venv/d.py", ".tools/e.py", "test_f.py", "g_test.py", "conftest.py", "tests/h.py", "i-j.py")
    for path in hidden:
        write(folder, path, service.format("Hidden"))
    (folder / "link.py").symlink_to(folder / "b.py")
    assert found(folder) == [("app/a.py:Three", "three"), ("b.py:One", "one"), ("b.py:Two", "zwei")]


def test_secrets_and_pickles_of_the_folder_stop_nothing(folder: Path) -> None:
    write(folder, "shop.py", "import kaon\n@kaon.service\nclass Shop: ...")
    write(folder, "key.pem", "-----BEGIN PRIVATE KEY-----\nx\n")
    write(folder, "model.pkl", "\x80")
    assert found(folder) == [("shop.py:Shop", "shop")]


def test_a_service_that_is_not_valid_python_is_named(folder: Path) -> None:
    write(folder, "shop.py", "import kaon\n@kaon.service\nclass Shop(: ...")
    write(folder, "other.py", "print 'an old script'")
    with pytest.raises(BuildError, match=r"shop\.py is not valid Python"):
        find_services(folder)
