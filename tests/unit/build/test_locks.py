from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kaon.build import locks
from kaon.build.locks import check_lock
from kaon.build.requirements import Requirements, read_requirements
from kaon.build.runtime_wheel import installed_requirements
from kaon.build.sources import Target, find_target
from kaon.errors import BuildError, InvalidInput


def lock_for(target: Target, packages: tuple[str, ...], **other: Any) -> str:
    """The text of the lock for packages by name."""
    return locks.lock_for(target, Requirements(packages=set(packages)), target.project.parent / "work", **other).text


HASH = " --hash=sha256:" + "a" * 64


def target(project: Path, decorator: str = "kaon.service") -> Target:
    (project / "greeter.py").write_text(f"import kaon\n@{decorator}\nclass Greeter: ...\n")
    return find_target("greeter.py:Greeter", project)


def test_requirements_of_the_class_are_read_without_importing_it(project: Path) -> None:
    found = target(project, "kaon.service(requirements=['b>=2', 'a[x]==1', 'kaon'])")
    assert read_requirements(found).names == ("a[x]==1", "b>=2")


def test_requirements_txt_comes_before_pyproject(project: Path) -> None:
    (project / "pyproject.toml").write_text("[project]\ndependencies = ['one', 'Kaon>=0.1']\n")
    assert read_requirements(target(project)).names == ("one",)
    (project / "requirements.txt").write_text("# what it needs\ntwo>=2  # newer\n\nthree==1; python_version>'3'\n")
    assert read_requirements(target(project)).names == ("three==1; python_version>'3'", "two>=2")


@pytest.mark.parametrize(
    "line",
    [
        "--config-settings x=y",
        "-r other.txt",
        "./local",
        "./local.tar.gz",
        "evil @ https://evil.invalid/evil.whl",
        "https://evil.invalid/evil.whl",
        "git+https://evil.invalid/evil",
        "http://evil.invalid/evil-1.0-py3-none-any.whl",
        "https://evil.invalid/evil-1.0-py3-none-any.whl",
    ],
)
def test_what_cannot_be_locked_is_refused(project: Path, line: str) -> None:
    (project / "local.tar.gz").write_text("x")
    (project / "requirements.txt").write_text(line + "\n")
    with pytest.raises(BuildError) as caught:
        read_requirements(target(project))
    assert line.rsplit(" ", maxsplit=1)[-1].lstrip("./") in caught.value.cause


def test_computed_requirements_are_refused(project: Path) -> None:
    with pytest.raises(BuildError, match="not a literal list"):
        read_requirements(target(project, "kaon.service(requirements=list(NAMES))"))


@pytest.mark.parametrize(
    "line",
    [
        "evil==1.0",
        "evil>=1.0" + HASH,
        "evil" + HASH,
        "evil==1.0 --hash=md5:" + "a" * 32,
        "evil @ https://evil.invalid/evil.whl" + HASH,
        "-r /etc/passwd",
        "--index-url https://evil.invalid",
        "--find-links /tmp",
        "/tmp/evil.whl" + HASH,
        "evil==1.0" + HASH + " --config-settings x=y",
        "evil==1.0 ; python_version > '3' --index-url https://evil.invalid" + HASH,
        "${HOME}==1.0" + HASH,
    ],
)
def test_a_lock_is_pinned_names_and_hashes_only(line: str) -> None:
    with pytest.raises(InvalidInput):
        check_lock(line + "\n")


def test_a_lock_may_have_markers_extras_comments_and_many_hashes() -> None:
    marked = "Fine.Name[x]==1.0+cpu ; python_version < '3.12' and sys_platform == 'linux'"
    text = f"# by uv\n{marked} \\\n   {HASH} \\\n   {HASH}\n    # via x\n"
    assert check_lock(text) == {"fine-name": {"1.0+cpu"}}


def test_a_lock_is_kept_while_the_requirements_stay(project: Path, add_wheel: Callable[..., Path]) -> None:
    found = target(project)
    first = lock_for(found, ("tinymath",))
    assert "tinymath==1.1" in first
    add_wheel("tinymath", "1.2", "")
    assert lock_for(found, ("tinymath",)) == first


def test_changed_requirements_change_only_versions_that_no_longer_fit(
    project: Path, add_wheel: Callable[..., Path]
) -> None:
    found = target(project)
    lock_for(found, ("tinymath",))
    add_wheel("tinymath", "1.2", "")
    add_wheel("needy", "1.0", "")
    assert "tinymath==1.1" in lock_for(found, ("tinymath", "needy"))
    assert "tinymath==1.2" in lock_for(found, ("tinymath>1.1", "needy"))


def test_a_lock_has_the_runtimes_requirements_in_the_platforms_versions(
    project: Path, add_wheel: Callable[..., Path]
) -> None:
    add_wheel("starlette", "999.0", "")
    locked = check_lock(lock_for(target(project), ("tinymath",)))
    assert locked["tinymath"] == {"1.1"}
    assert {name: locked[name] for name in installed_requirements()} == {
        name: {version} for name, version in installed_requirements().items()
    }


def test_a_service_may_require_other_versions_than_the_platform_has(
    project: Path, add_wheel: Callable[..., Path]
) -> None:
    for version in ("0.40.0", "999.0"):
        add_wheel("starlette", version, "")
        add_wheel("needy", version, "", requires=f"starlette=={version}")
        assert check_lock(lock_for(target(project), (f"needy=={version}",)))["starlette"] == {version}


def test_a_lock_of_an_older_kaon_is_locked_again(project: Path, wheels: Path) -> None:
    header = "# kaon: locks the requirements sha256:"
    (project / "requirements.lock").write_text(f"{header}{'0' * 64}\ntinymath==1.0{HASH}\n")
    locked = check_lock(lock_for(target(project), ("tinymath",)))
    assert locked["tinymath"] == {"1.0"}
    assert "starlette" in locked


OF_SYSTEMS = (("0.9", "<"), ("1.0", ">="))


def test_a_complete_lock_of_another_tool_is_used(project: Path) -> None:
    (project / "requirements.lock").write_text(f"tinymath==0.9{HASH}\n")
    assert lock_for(target(project), ("tinymath",)) == f"tinymath==0.9{HASH}\n"
    with pytest.raises(BuildError, match=r"does not contain other, which the service requires"):
        lock_for(target(project), ("tinymath", "other"))


def test_a_lock_may_have_several_versions_of_a_package_for_several_systems(project: Path) -> None:
    lines = (f"tinymath=={version} ; python_version {where} '3.12'{HASH}\n" for version, where in OF_SYSTEMS)
    (project / "requirements.lock").write_text("".join(lines))
    assert lock_for(target(project), ("tinymath",)).count("tinymath==") == len(OF_SYSTEMS)


def test_an_unsolvable_requirement_is_an_error_with_the_text_of_uv(project: Path, wheels: Path) -> None:
    with pytest.raises(BuildError, match="no-such-package"):
        lock_for(target(project), ("no-such-package",))


def test_no_requirements_need_no_lock(project: Path) -> None:
    assert lock_for(target(project), ()) == ""
    assert not (project / "requirements.lock").exists()


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("requirements.txt", b"caf\xe9\n", "is not UTF-8"),
        ("requirements.lock", b"caf\xe9\n", "is not UTF-8"),
        ("pyproject.toml", b"project = 'x'\n", "'project' in .* is not a table"),
        ("pyproject.toml", b"tool = 3\n", "'tool' in .* is not a table"),
        ("pyproject.toml", b"[tool]\nkaon = 3\n", "'kaon' in .* is not a table"),
        ("pyproject.toml", b"[project]\ndependencies = 'six'\n", "not a list of strings"),
    ],
)
def test_invalid_project_files_are_errors(project: Path, file: str, content: bytes, said: str) -> None:
    (project / file).write_bytes(content)
    if file == "pyproject.toml":
        (project / "requirements.txt").unlink(missing_ok=True)
    with pytest.raises(BuildError, match=said):
        _locked(project)


def _locked(project: Path) -> str:
    found = target(project)
    return locks.lock_for(found, read_requirements(found), project.parent / "work").text
