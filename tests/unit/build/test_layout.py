"""Where a project's modules are found, for every common layout; what is told when one is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kaon.build.build import build
from kaon.build.sources import find_target
from kaon.errors import BuildError
from kaon.sdk.layout import find_root, search_path

BODY = """
@kaon.service
class Svc:
    @kaon.endpoint
    def up(self, text: str) -> str:
        return shout(text)
"""
WORDS = "def shout(text): return text.upper()\n"


def service(*imports: str) -> str:
    return "\n".join(["import kaon", *imports]) + BODY


LAYOUTS: dict[str, tuple[str, dict[str, str], str]] = {
    # name: (target, files, entry)
    "one file": ("svc.py", {"svc.py": service("def shout(text): return text")}, "svc"),
    "a module beside": ("svc.py", {"svc.py": service("from words import shout"), "words.py": WORDS}, "svc"),
    "a package": (
        "app/svc.py",
        {"app/__init__.py": "", "app/svc.py": service("from .words import shout"), "app/words.py": WORDS},
        "app.svc",
    ),
    "a folder without __init__.py": (
        "app/svc.py",
        {"app/svc.py": service("from app.words import shout"), "app/words.py": WORDS},
        "app.svc",
    ),
    "a folder without __init__.py, relative": (
        "app/svc.py",
        {"app/svc.py": service("from .words import shout"), "app/words.py": WORDS},
        "app.svc",
    ),
    "a deep folder without __init__.py": (
        "a/b/svc.py",
        {"a/b/svc.py": service("from a.words import shout"), "a/words.py": WORDS},
        "a.b.svc",
    ),
    "src with a package": (
        "src/app/svc.py",
        {
            "src/app/__init__.py": "",
            "src/app/svc.py": service("from app.words import shout"),
            "src/app/words.py": WORDS,
        },
        "app.svc",
    ),
    "src with a folder without __init__.py": (
        "src/app/svc.py",
        {"src/app/svc.py": service("from app.words import shout"), "src/app/words.py": WORDS},
        "app.svc",
    ),
    "a script beside src": (
        "svc.py",
        {"svc.py": service("from app.words import shout"), "src/app/words.py": WORDS},
        "svc",
    ),
    "a script in a folder beside src": (
        "scripts/svc.py",
        {"scripts/svc.py": service("from app.words import shout"), "src/app/words.py": WORDS},
        "scripts.svc",
    ),
    "a script in a folder beside packages": (
        "scripts/svc.py",
        {"scripts/svc.py": service("from app.words import shout"), "app/words.py": WORDS},
        "scripts.svc",
    ),
    "a script with a module beside it and a package beside its folder": (
        "scripts/svc.py",
        {
            "scripts/svc.py": service("import helper", "shout = helper.shout"),
            "scripts/helper.py": "from app.words import shout\n",
            "app/words.py": WORDS,
        },
        "scripts.svc",
    ),
    "one of many in a repository": (
        "services/one/svc.py",
        {"services/one/svc.py": service("from libs.text.words import shout"), "libs/text/words.py": WORDS},
        "services.one.svc",
    ),
    "a module that its own modules lead to": (
        "app/svc.py",
        {
            "app/svc.py": service("from helper import shout"),
            "app/helper.py": "from common.words import shout\n",
            "common/words.py": WORDS,
        },
        "app.svc",
    ),
}


def made(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("marked_by", [".git/config", "pyproject.toml", ""])
def test_every_common_layout_is_found(tmp_path: Path, name: str, marked_by: str) -> None:
    target, files, entry = LAYOUTS[name]
    project = made(tmp_path / "project", {**files, **({marked_by: ""} if marked_by else {})})
    found = find_target(f"{target}:Svc", project)
    assert found.module == entry
    path = [str(folder) for folder in search_path(found.root, found.file)]
    code = f"import sys; sys.path[:0] = {path}; import {entry} as m; print(m.Svc().up('hi'))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.lower() == "hi\n", done.stderr


def test_a_class_is_built_when_the_path_has_many_folders(tmp_path: Path) -> None:
    target, files, entry = LAYOUTS["a script with a module beside it and a package beside its folder"]
    project = made(tmp_path / "project", files | {".git/config": ""})
    built = build(f"{target}:Svc", folder=project, environments=tmp_path / "environments", out=tmp_path / "out")
    assert built.manifest.service.entry == f"{entry}:Svc"


def test_the_current_folder_does_not_matter(tmp_path: Path) -> None:
    target, files, _ = LAYOUTS["src with a folder without __init__.py"]
    project = made(tmp_path / "project", files | {"pyproject.toml": ""})
    wanted = find_target(f"{target}:Svc", project)
    assert find_target("svc.py:Svc", project / "src/app") == wanted
    assert find_target(f"{project / target}:Svc", tmp_path) == wanted


def test_an_installed_package_does_not_widen_the_root(tmp_path: Path) -> None:
    project = made(tmp_path, {"one/svc.py": service("import torch"), "two/x.py": "", ".git/config": ""})
    assert find_root(project / "one/svc.py", project) == project / "one"


def test_nothing_above_the_project_is_read(tmp_path: Path) -> None:
    made(tmp_path, {"app/words.py": WORDS, "project/.git/config": ""})
    project = made(tmp_path / "project", {"svc.py": service("from app.words import shout")})
    assert find_target("svc.py:Svc", tmp_path / "project").root == project


def test_a_folder_src_that_is_imported_by_its_name_is_not_put_on_the_path(tmp_path: Path) -> None:
    project = made(tmp_path, {"svc.py": service("from src.types import shout"), "src/types.py": WORDS})
    found = find_target("svc.py:Svc", project)
    assert search_path(found.root, found.file) == (project,)


@pytest.mark.parametrize("stated", ["requirements.txt", "pyproject.toml"])
def test_requirements_are_found_above_the_sources(tmp_path: Path, stated: str) -> None:
    target, files, _ = LAYOUTS["src with a package"]
    text = "six\n" if stated == "requirements.txt" else "[project]\nname = 'app'\ndependencies = ['six']\n"
    project = made(tmp_path / "project", files | {".git/config": "", stated: text})
    found = find_target(f"{target}:Svc", project)
    assert (found.project, found.root) == (project, project / "src")


@pytest.mark.parametrize("name", ["types", "statistics", "random", "json", "kaon"])
def test_a_module_that_hides_one_of_pythons_is_refused_with_that_reason(tmp_path: Path, name: str) -> None:
    made(tmp_path, {f"{name}.py": service("def shout(text): return text"), "other.py": service("shout = str")})
    for target in (f"{name}.py:Svc", "other.py:Svc"):
        with pytest.raises(BuildError, match=rf"{name}\.py has the same name as the module '{name}'") as caught:
            find_target(target, tmp_path)
        assert "Rename" in caught.value.hint


def test_a_package_hides_too_and_a_folder_of_data_or_a_module_in_a_package_does_not(tmp_path: Path) -> None:
    made(tmp_path, {"svc.py": service("shout = str"), "json/data.txt": "", "app/__init__.py": "", "app/types.py": ""})
    assert find_target("svc.py:Svc", tmp_path).module == "svc"
    made(tmp_path, {"json/__init__.py": ""})
    with pytest.raises(BuildError, match="json has the same name"):
        find_target("svc.py:Svc", tmp_path)


@pytest.mark.parametrize(
    ("files", "imports", "said"),
    [
        ({}, "import no_such_package", "requirements"),
        ({"app/__init__.py": ""}, "import app.words", "a module of the project"),
        (
            {"app/__init__.py": "", "app/words.py": "", ".gitignore": "words.py\n"},
            "import app.words",
            ".gitignore line 1",
        ),
        ({"sauce.py": "", ".gitignore": "sauce.py\n"}, "import sauce", "sauce.py was left out"),
        ({"model.onnx": "", ".gitignore": "*.onnx\n"}, "open('model.onnx')", "--include model.onnx"),
        ({}, "import os; os.environ['MODEL_ID']", "--env"),
    ],
)
def test_a_failed_import_has_a_hint(tmp_path: Path, files: dict[str, str], imports: str, said: str) -> None:
    project = made(tmp_path / "project", {**files, "svc.py": service(imports, "shout = str")})
    with pytest.raises(BuildError) as caught:
        build("svc.py:Svc", folder=project, environments=tmp_path / "environments", out=tmp_path / "out")
    assert said in caught.value.hint
    assert "requirements" not in caught.value.hint or said == "requirements"
