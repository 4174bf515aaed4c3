from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from kaon.build.archive import extract, read_manifest, remove
from kaon.build.build import Built, build
from kaon.errors import BuildError, InvalidInput, NotFound
from kaon.types.artifact import Consent

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


def test_a_class_becomes_an_artifact_with_its_description(project: Path) -> None:
    built = run(project)
    assert built.manifest == read_manifest(built.path, digest=built.digest)
    assert built.manifest.service.name == "greeter"
    assert built.manifest.service.entry == "greeter:Greeter"
    assert [endpoint.name for endpoint in built.manifest.service.endpoints] == ["greet"]
    assert packed(built) == ["src/greeter.py"]
    assert built.manifest.lock == ""
    assert built.path.name == f"greeter-{built.digest[7:19]}.tar.gz"


def test_equal_sources_give_equal_bytes_at_any_place_and_time(project: Path) -> None:
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


def test_a_changed_file_or_mode_gives_another_artifact(project: Path) -> None:
    (project / "tool.sh").write_text("true\n")
    digests = {run(project).digest}
    (project / "tool.sh").chmod(0o755)
    digests.add(run(project).digest)
    (project / "tool.sh").write_text("false\n")
    digests.add(run(project).digest)
    assert len(digests) == 3


def test_an_unpacked_artifact_equals_its_sources_and_is_read_only(project: Path) -> None:
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


def test_output_of_the_module_does_not_matter(project: Path) -> None:
    noisy = "import os, sys\nprint('{')\nsys.stdout.write('x')\nos.write(1, b'y')\nos.system('echo z')\n"
    (project / "greeter.py").write_text(noisy + (project / "greeter.py").read_text())
    assert run(project).manifest.service.name == "greeter"


def test_an_import_error_has_the_last_lines_of_output(project: Path) -> None:
    (project / "greeter.py").write_text((project / "greeter.py").read_text() + "\nraise RuntimeError('no such luck')\n")
    with pytest.raises(BuildError, match="no such luck") as caught:
        run(project)
    assert any("greeter.py" in line["line"] for line in caught.value.errors)


def with_lines(project: Path, *lines: str) -> None:
    (project / "greeter.py").write_text("\n".join(lines) + "\n" + (project / "greeter.py").read_text())


def test_the_deployments_variables_are_set_while_the_module_is_imported(project: Path) -> None:
    with_lines(project, "import os", "assert os.environ['MODEL_ID'] == 'bert'", "assert os.environ['LANG'] == 'x'")
    assert run(project, env={"MODEL_ID": "bert", "LANG": "x"}).manifest.service.name == "greeter"


def test_variables_of_the_shell_are_not_passed_to_the_module(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    with_lines(project, "import os", "assert not {'AWS_SECRET_ACCESS_KEY', 'PYTHONPATH'} & os.environ.keys()")
    assert run(project).manifest.service.name == "greeter"


@pytest.mark.parametrize(
    "lines",
    [
        ["import os", "os.close(0)", "os.close(1)", "os.close(2)"],
        ["import sys", "sys.stdout.close()", "sys.stderr.close()"],
        ["import sys", "sys.stdout = sys.stderr = None"],
        ["import os", "os.chdir('/')"],
        ["import os", "for _ in range(300): os.write(1, b'x' * 10_000)"],
        ["import subprocess", "subprocess.Popen(['sleep', '1000'])"],
        ["import threading", "threading.Thread(target=threading.Event().wait).start()"],
        ["import atexit", "atexit.register(lambda: 1 / 0)"],
    ],
)
def test_side_effects_of_an_import_do_not_break_the_inspection(project: Path, lines: list[str]) -> None:
    with_lines(project, *lines)
    assert run(project).manifest.service.name == "greeter"


@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        (["import os", "print('soon', flush=True)", "os.abort()"], "SIGABRT ended the importing process"),
        (["import os", "print('soon', flush=True)", "os._exit(0)"], "ended with exit code 0"),
        (["import os", "print('soon', flush=True)", "os._exit(3)"], "ended with exit code 3"),
        (["import os", "print('soon', flush=True)", "os.kill(os.getpid(), 9)"], "SIGKILL ended the importing process"),
        (["print('soon', flush=True)", "raise KeyboardInterrupt"], "KeyboardInterrupt"),
    ],
)
def test_a_module_that_ends_its_process_is_an_error_with_its_last_lines(
    project: Path, lines: list[str], cause: str
) -> None:
    with_lines(project, *lines)
    with pytest.raises(BuildError, match=cause) as caught:
        run(project)
    assert "soon" in [line["line"] for line in caught.value.errors]


def test_an_import_that_never_ends_is_stopped(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kaon.build.build.INSPECTION_TIMEOUT_S", 1.0)
    with_lines(project, "print('soon', flush=True)", "import threading", "threading.Event().wait()")
    with pytest.raises(BuildError, match="took more than 1 s") as caught:
        run(project)
    assert "constructor" in caught.value.hint


def test_left_out_files_are_reported_and_do_not_change_the_artifact(project: Path) -> None:
    (project / ".gitignore").write_text("*.onnx\n")
    without = run(project)
    (project / "model.onnx").write_text("x")
    built = run(project)
    assert [(left.path, left.reason) for left in built.left_out] == [("model.onnx", ".gitignore line 1: *.onnx")]
    assert built.digest == without.digest
    assert packed(run(project, include=["model.onnx"])) == ["src/greeter.py", "src/model.onnx"]


def test_consent_to_pickles_and_their_paths_are_in_the_manifest(project: Path) -> None:
    (project / "model.pkl").write_bytes(b"\x80\x04]\x94.")
    manifest = run(project, allow=[Consent.PICKLE]).manifest
    assert (manifest.allowed, manifest.pickles) == ((Consent.PICKLE,), ("model.pkl",))


def test_the_class_allows_pickles(project: Path) -> None:
    (project / "model.pkl").write_bytes(b"\x80\x04]\x94.")
    source = (project / "greeter.py").read_text()
    (project / "greeter.py").write_text(source.replace("@kaon.service", "@kaon.service(allow_pickle=True)"))
    assert run(project).manifest.pickles == ("model.pkl",)
    (project / "greeter.py").write_text(source.replace("@kaon.service", "@kaon.service(allow_pickle=False)"))
    with pytest.raises(BuildError, match=r"model\.pkl"):
        run(project)
    (project / "greeter.py").write_text(source.replace("@kaon.service", "@kaon.service(allow_pickle=bool(1))"))
    with pytest.raises(BuildError, match="not True or False"):
        run(project)


def test_a_large_file_is_packed_although_its_copy_is_a_link(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kaon.build.build._LINKED_FROM_BYTES", 1000)
    weights = os.urandom(1000)
    (project / "weights.bin").write_bytes(weights)
    built = run(project)
    extract(built.path, project.parent / "unpacked", digest=built.digest)
    unpacked = project.parent / "unpacked" / "src" / "weights.bin"
    assert unpacked.read_bytes() == weights
    assert not unpacked.is_symlink()
    assert unpacked.stat().st_mode & 0o777 == 0o444


def test_a_left_out_module_is_an_error_with_the_reason(project: Path) -> None:
    (project / ".gitignore").write_text("greet*\n")
    with pytest.raises(BuildError, match=r"greeter\.py itself is left out: \.gitignore line 1: greet\*"):
        run(project)


def test_a_module_that_exits_is_an_error(project: Path) -> None:
    (project / "greeter.py").write_text((project / "greeter.py").read_text() + "\nraise SystemExit(0)\n")
    with pytest.raises(BuildError, match="cannot be imported"):
        run(project)


def test_an_import_of_a_left_out_module_fails_the_build(project: Path) -> None:
    (project / "secret_sauce.py").write_text("x = 1\n")
    (project / ".gitignore").write_text("secret_sauce.py\n")
    (project / "greeter.py").write_text("import secret_sauce\n" + (project / "greeter.py").read_text())
    with pytest.raises(BuildError, match="secret_sauce"):
        run(project)


def test_a_class_without_the_decorator_is_an_error(project: Path) -> None:
    (project / "plain.py").write_text("class Plain: ...\n")
    with pytest.raises(BuildError):
        run(project, "plain.py:Plain")


@pytest.mark.parametrize("target", ["greeter.py", "greeter:Greeter", "greeter.py:", "greeter.py:a-b", ""])
def test_a_target_without_a_class_is_invalid_input(project: Path, target: str) -> None:
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


def test_pyproject_can_set_the_source_folder(project: Path) -> None:
    (project / "pyproject.toml").write_text('[tool.kaon]\nsource = "code"\n')
    (project / "code" / "inner").mkdir(parents=True)
    shutil.move(project / "greeter.py", project / "code" / "inner" / "greeter.py")
    (project / "code" / "more.txt").write_text("x")
    built = run(project, "code/inner/greeter.py:Greeter")
    assert built.manifest.service.entry == "inner.greeter:Greeter"
    assert packed(built) == ["src/inner/greeter.py", "src/more.txt"]


def test_a_service_is_built_with_its_required_packages(project: Path, wheels: Path) -> None:
    (project / "doubler.py").write_text(USES_TINYMATH)
    built = run(project, "doubler.py:Doubler")
    assert built.manifest.service.requirements == ("tinymath==1.0",)
    assert packed(built)[0] == "requirements.lock"
    assert len(built.manifest.lock) == 64
    lock = (project / "requirements.lock").read_text()
    assert "tinymath==1.0" in lock
    assert str(wheels) not in lock
    assert run(project, "doubler.py:Doubler").digest == built.digest


def test_too_many_bytes_are_an_error_with_a_hint(project: Path) -> None:
    from kaon.build.limits import ArtifactLimits

    (project / "big.bin").write_bytes(os.urandom(200_000))
    with pytest.raises(BuildError) as caught:
        run(project, limits=ArtifactLimits(unpacked_bytes=100_000))
    assert ".gitignore" in caught.value.hint
    assert list((project.parent / "out").glob("*")) == []
