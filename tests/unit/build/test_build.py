from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from kaon.errors import BuildError, InvalidInput, NotFound
from kaon.sdk.archive import extract, read_manifest, remove
from kaon.sdk.build import Built, build

USES_TINYMATH = """
import kaon
from tinymath import double

@kaon.service(requirements=["tinymath==1.0"])
class Doubler:
    @kaon.endpoint
    def double(self, x: int) -> int:
        return double(x)
"""


def run(project: Path, target: str = "greeter.py:Greeter", **other: Any) -> Built:
    return build(
        target, folder=project, environments=project.parent / "environments", out=project.parent / "out", **other
    )


def packed(built: Built) -> list[str]:
    return [entry.path for entry in built.manifest.files]


def test_a_class_becomes_an_artifact_that_says_what_it_is(project: Path) -> None:
    built = run(project)
    assert built.manifest == read_manifest(built.path, digest=built.digest)
    assert built.manifest.service.name == "greeter"
    assert built.manifest.service.entry == "greeter:Greeter"
    assert [endpoint.name for endpoint in built.manifest.service.endpoints] == ["greet"]
    assert packed(built) == ["src/greeter.py"]
    assert built.manifest.lock == ""
    assert built.path.name == f"greeter-{built.digest[7:19]}.tar.gz"


def test_equal_sources_give_equal_bytes_wherever_and_whenever(project: Path) -> None:
    (project / "words.txt").write_text("hello\n")
    first = run(project)
    other = project.parent / "elsewhere"
    other.mkdir()
    for name in ("words.txt", "greeter.py"):
        (other / name).write_bytes((project / name).read_bytes())
        os.utime(other / name, (1, time.time()))
        (other / name).chmod(0o600)
    second = build("greeter.py:Greeter", folder=other, environments=other / ".e", out=other / "dist")
    assert first.digest == second.digest
    assert first.path.read_bytes() == second.path.read_bytes()


def test_a_changed_file_or_mode_is_another_artifact(project: Path) -> None:
    (project / "tool.sh").write_text("true\n")
    digests = {run(project).digest}
    (project / "tool.sh").chmod(0o755)
    digests.add(run(project).digest)
    (project / "tool.sh").write_text("false\n")
    digests.add(run(project).digest)
    assert len(digests) == 3


def test_unpacked_it_is_what_it_was_and_nobody_may_write(project: Path) -> None:
    (project / "models").mkdir()
    (project / "models" / "weights.bin").write_bytes(os.urandom(300_000))
    (project / "tool.sh").write_text("true\n")
    (project / "tool.sh").chmod(0o755)
    built = run(project)
    target = project.parent / "unpacked"
    assert extract(built.path, target, digest=built.digest) == built.manifest
    assert (target / "src/models/weights.bin").read_bytes() == (project / "models/weights.bin").read_bytes()
    modes = {path.relative_to(target).as_posix(): path.stat().st_mode & 0o777 for path in target.rglob("*")}
    assert modes["src/tool.sh"] == modes["src/models"] == modes["src"] == 0o555
    assert modes["src/greeter.py"] == modes["manifest.json"] == 0o444
    assert extract(built.path, target, digest=built.digest) == built.manifest
    remove(target)
    assert not target.exists()


def test_what_the_module_prints_does_not_disturb(project: Path) -> None:
    noisy = "import os, sys\nprint('{')\nsys.stdout.write('x')\nos.write(1, b'y')\nos.system('echo z')\n"
    (project / "greeter.py").write_text(noisy + (project / "greeter.py").read_text())
    assert run(project).manifest.service.name == "greeter"


def test_a_module_that_fails_is_an_error_with_its_last_lines(project: Path) -> None:
    (project / "greeter.py").write_text((project / "greeter.py").read_text() + "\nraise RuntimeError('no such luck')\n")
    with pytest.raises(BuildError, match="no such luck") as caught:
        run(project)
    assert any("greeter.py" in line["line"] for line in caught.value.errors)


def test_a_module_that_exits_is_an_error(project: Path) -> None:
    (project / "greeter.py").write_text((project / "greeter.py").read_text() + "\nraise SystemExit(0)\n")
    with pytest.raises(BuildError, match="cannot be imported"):
        run(project)


def test_a_module_that_was_left_out_is_missed_at_the_build(project: Path) -> None:
    (project / "secret_sauce.py").write_text("x = 1\n")
    (project / ".gitignore").write_text("secret_sauce.py\n")
    (project / "greeter.py").write_text("import secret_sauce\n" + (project / "greeter.py").read_text())
    with pytest.raises(BuildError, match="secret_sauce"):
        run(project)


def test_a_class_without_the_mark_is_an_error(project: Path) -> None:
    (project / "plain.py").write_text("class Plain: ...\n")
    with pytest.raises(BuildError):
        run(project, "plain.py:Plain")


@pytest.mark.parametrize("target", ["greeter.py", "greeter:Greeter", "greeter.py:", "greeter.py:a-b", ""])
def test_a_target_that_names_no_class_is_wrong_input(project: Path, target: str) -> None:
    with pytest.raises(InvalidInput):
        run(project, target)


def test_a_missing_file_is_not_found(project: Path) -> None:
    with pytest.raises(NotFound):
        run(project, "other.py:Greeter")


def test_a_module_of_a_package_is_imported_by_its_full_name(project: Path) -> None:
    package = project / "app"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "words.py").write_text("HELLO = 'Hello'\n")
    shutil.move(project / "greeter.py", package / "greeter.py")
    (package / "greeter.py").write_text("from app.words import HELLO\n" + (package / "greeter.py").read_text())
    built = run(project, "app/greeter.py:Greeter")
    assert built.manifest.service.entry == "app.greeter:Greeter"
    assert packed(built) == ["src/app/__init__.py", "src/app/greeter.py", "src/app/words.py"]


def test_pyproject_can_say_where_the_sources_are(project: Path) -> None:
    (project / "pyproject.toml").write_text('[tool.kaon]\nsource = "code"\n')
    (project / "code" / "inner").mkdir(parents=True)
    shutil.move(project / "greeter.py", project / "code" / "inner" / "greeter.py")
    (project / "code" / "more.txt").write_text("x")
    built = run(project, "code/inner/greeter.py:Greeter")
    assert built.manifest.service.entry == "inner.greeter:Greeter"
    assert packed(built) == ["src/inner/greeter.py", "src/more.txt"]


def test_a_service_is_built_with_the_packages_that_it_names(project: Path, wheels: Path) -> None:
    (project / "doubler.py").write_text(USES_TINYMATH)
    built = run(project, "doubler.py:Doubler")
    assert built.manifest.service.requirements == ("tinymath==1.0",)
    assert packed(built)[0] == "requirements.lock"
    assert len(built.manifest.lock) == 64
    lock = (project / "requirements.lock").read_text()
    assert "tinymath==1.0" in lock
    assert str(wheels) not in lock
    assert run(project, "doubler.py:Doubler").digest == built.digest


def test_too_much_is_an_error_that_says_what_to_do(project: Path) -> None:
    from kaon.sdk.limits import Limits

    (project / "big.bin").write_bytes(os.urandom(200_000))
    with pytest.raises(BuildError) as caught:
        run(project, limits=Limits(unpacked_bytes=100_000))
    assert ".gitignore" in caught.value.hint
    assert list((project.parent / "out").glob("*")) == []
