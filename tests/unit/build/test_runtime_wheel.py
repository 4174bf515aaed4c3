"""The distribution `kaon-runtime`."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from email.parser import Parser
from importlib import metadata
from pathlib import Path

import grimp
import pytest

import kaon
from kaon.build import runtime_wheel
from kaon.build.installer import run_uv
from kaon.build.requirements import name_of

LOADED_BY_OTHERS = {"httptools", "python-multipart"}
"""Imported by uvicorn and starlette alone, for HTTP and for forms."""


def modules() -> set[str]:
    """The modules in the wheel."""
    files = [Path(name) for name in runtime_wheel.contents() if name.startswith("kaon/") and name.endswith(".py")]
    return {".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files}


def test_it_imports_only_what_it_holds_and_what_it_requires() -> None:
    graph = grimp.build_graph("kaon", include_external_packages=True, exclude_type_checking_imports=True)
    packages = metadata.packages_distributions()
    required = {name_of(text) for text in runtime_wheel.REQUIRES}
    used: set[str] = set()
    for module in modules():
        for imported in graph.find_modules_directly_imported_by(module):
            if imported.startswith("kaon"):
                assert imported in modules(), f"{module} imports {imported}, which is not in the wheel"
            elif imported not in sys.stdlib_module_names and imported != "numpy":  # numpy: when the service has it
                used.add(name_of(packages[imported][0]))
    assert used - {"pydantic-core"} == required - LOADED_BY_OTHERS  # pydantic brings exactly its pydantic-core


def test_it_holds_no_part_of_the_platform_and_every_file_of_its_own() -> None:
    platform = {"agent", "api", "build", "cli", "control", "drivers", "edge", "sim", "stack", "store", "testing"}
    assert not platform & {name.split(".")[1] for name in modules() if "." in name}
    assert "kaon/py.typed" in runtime_wheel.contents()
    assert {"page.css", "page.html", "page.js"} <= {Path(name).name for name in runtime_wheel.contents()}


def test_its_ranges_contain_those_of_the_platform() -> None:
    platform = {name_of(text): text for text in metadata.requires("kaon") or [] if "extra ==" not in text}
    for text in runtime_wheel.REQUIRES:
        assert lowest(text) <= lowest(platform[name_of(text)])


def lowest(requirement: str) -> tuple[int, ...]:
    found = re.search(r">=([\d.]+)", requirement)
    assert found, requirement
    return tuple(map(int, found.group(1).split(".")))


def test_equal_contents_give_equal_bytes(tmp_path: Path) -> None:
    first, second = runtime_wheel.write(tmp_path / "1"), runtime_wheel.write(tmp_path / "2")
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as wheel:
        described = Parser().parsestr(wheel.read(f"kaon_runtime-{kaon.__version__}.dist-info/METADATA").decode())
    assert described["Name"] == "kaon-runtime"
    assert tuple(described.get_all("Requires-Dist", [])) == runtime_wheel.REQUIRES


def test_it_can_be_installed_into_the_platforms_environment_and_changes_nothing(tmp_path: Path) -> None:
    """Both distributions hold the same files."""
    wheel = runtime_wheel.write(tmp_path / "dist")
    target = tmp_path / "packages"
    run_uv(["pip", "install", "--no-deps", "--offline", "--target", str(target), str(wheel)], "no")
    own = Path(kaon.__file__).parent
    for file in (target / "kaon").rglob("*.py"):
        assert file.read_bytes() == (own / file.relative_to(target / "kaon")).read_bytes()
    code = "import kaon.runtime.service, kaon.runtime.job, kaon.client.platform; print(kaon.__file__)"
    environment = {"PYTHONPATH": str(target)}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert found.stdout.strip() == str(target / "kaon/__init__.py")


def test_a_wheel_that_cannot_be_written_whole_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(zipfile.ZipFile, "writestr", broken)
        with pytest.raises(OSError, match="no space"):
            runtime_wheel.write(tmp_path)
    assert not list(tmp_path.glob("*.whl"))
    assert zipfile.ZipFile(runtime_wheel.write(tmp_path)).testzip() is None
