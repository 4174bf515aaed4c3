from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kaon.build import runtime_wheel
from kaon.build.environments import Environments, lock_hash
from kaon.build.locks import resolve
from kaon.build.requirements import Requirements, sha256_of
from kaon.build.runtime_wheel import installed_requirements
from kaon.errors import BuildError, InvalidInput


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "environments"


@pytest.fixture
def lock(wheels: Path) -> str:
    return resolve(Requirements(packages={"tinymath==1.0"}), {})


def output(python: Path, code: str) -> str:
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


LIST = """
import sys
from importlib.metadata import distributions
print(*sorted({found.name.replace("_", "-").lower() for found in distributions()}))
print(*[path for path in sys.path if path.endswith("site-packages")])
"""


def contents(python: Path) -> tuple[set[str], list[Path]]:
    """The distributions of an environment, and its folders of packages."""
    names, folders = output(python, LIST).splitlines()
    return set(names.split()), [Path(folder) for folder in folders.split()]


def test_without_requirements_it_holds_the_runtime_alone_and_needs_no_index(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(root / "empty"))
    python = Environments(root).ensure("")
    names, folders = contents(python)
    assert names == {"kaon-runtime", *installed_requirements()}
    assert [folder.is_relative_to(root) for folder in folders] == [True]
    assert (
        output(python, "import kaon.runtime.service, kaon.runtime.job, kaon; print(kaon.Client.__name__)") == "Client"
    )
    assert Environments(root).ensure("") == python


def test_it_holds_the_locks_packages_and_the_runtime_and_nothing_else(root: Path, lock: str) -> None:
    python = Environments(root).ensure(lock)
    names, folders = contents(python)
    assert names == {"tinymath", "kaon-runtime", *installed_requirements()}
    assert [folder.is_relative_to(root) for folder in folders] == [True]
    assert output(python, "import tinymath; print(tinymath.double(4))") == "8"
    with pytest.raises(subprocess.CalledProcessError):
        output(python, "import kaon.store")


def test_requirements_of_the_runtime_that_a_lock_lacks_come_from_the_platform(root: Path, lock: str) -> None:
    lines = lock.replace("\\\n", " ").splitlines(keepends=True)
    old = "".join(line for line in lines if line.startswith("tinymath"))
    names, _ = contents(Environments(root).ensure(old))
    assert names == {"tinymath", "kaon-runtime", *installed_requirements()}


def test_a_lock_that_does_not_fit_the_runtime_is_an_error(root: Path, add_wheel: Callable[..., Path]) -> None:
    sha256 = sha256_of(add_wheel("starlette", "0.20.0", ""))
    with pytest.raises(BuildError, match=r"does not fit kaon-runtime, which requires `starlette>=") as caught:
        Environments(root).ensure(f"starlette==0.20.0 --hash=sha256:{sha256}\n")
    assert "delete requirements.lock" in caught.value.hint


def test_another_runtime_gives_another_environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Environments(root).ensure("")
    monkeypatch.setattr(runtime_wheel, "contents", lambda: {"kaon/__init__.py": b"", "RECORD": b"other"})
    assert Environments(root).find("") is None
    assert first.exists()


def test_progress_is_reported_until_the_environment_exists(root: Path, lock: str) -> None:
    activities: list[str] = []
    Environments(root).ensure(lock, progress=activities.append)
    assert activities[0] == "making the environment"
    assert [text.partition(" ")[0] for text in activities] == ["making", "fetching", "installing", "compiling"]
    activities.clear()
    Environments(root).ensure(lock, progress=activities.append)
    assert activities == []


def test_it_is_read_only_and_linked_from_the_cache(root: Path, lock: str) -> None:
    module = Path(output(Environments(root).ensure(lock), "import tinymath; print(tinymath.__file__)"))
    assert module.stat().st_mode & 0o222 == 0
    assert module.parent.stat().st_mode & 0o222 == 0
    assert module.stat().st_nlink > 1


def test_an_existing_environment_needs_neither_uv_nor_packages(root: Path, lock: str, wheels: Path) -> None:
    first = Environments(root).ensure(lock)
    for wheel in wheels.iterdir():
        wheel.unlink()
    assert Environments(root).find(lock) == Environments(root).ensure(lock) == first


def test_an_environment_elsewhere_is_made_from_the_cache(
    root: Path, lock: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Environments(root).ensure(lock)
    monkeypatch.setenv("UV_OFFLINE", "1")
    python = Environments(tmp_path / "other").ensure(lock)
    assert output(python, "import tinymath; print(tinymath.double(1))") == "2"


def test_leftovers_of_a_dead_process_are_removed(root: Path, lock: str) -> None:
    name = Environments(root)._folder(lock).name
    (root / f".{name}.part" / "lib").mkdir(parents=True)
    (root / f".{name}.part" / "lib").chmod(0o500)
    assert Environments(root).find(lock) is None
    assert Environments(root).ensure(lock).exists()
    assert not (root / f".{name}.part").exists()


ENSURE = """
import sys
from pathlib import Path
from kaon.build.environments import Environments
python = Environments(Path(sys.argv[1])).ensure(sys.argv[2])
print(python, python.parent.stat().st_ino)
"""


def test_many_processes_make_one(root: Path, lock: str) -> None:
    command = [sys.executable, "-c", ENSURE, str(root), lock]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    outputs = {process.communicate(timeout=60)[0] for process in running}
    assert [process.returncode for process in running] == [0] * 4
    assert len(outputs) == 1


def test_a_wrong_hash_is_refused_and_leaves_no_environment(root: Path, lock: str) -> None:
    bad = re.sub(r"(tinymath==.*\s+--hash=sha256:)\w+", rf"\g<1>{'0' * 64}", lock)
    with pytest.raises(BuildError, match="installed"):
        Environments(root).ensure(bad)
    assert Environments(root).find(bad) is None


def test_a_lock_with_more_than_pins_is_not_installed(root: Path) -> None:
    with pytest.raises(InvalidInput):
        Environments(root).ensure("--index-url https://evil.invalid\n")


def test_prune_keeps_the_environments_of_the_given_locks(root: Path, lock: str) -> None:
    kept, gone = Environments(root), resolve(Requirements(packages={"tinymath==1.1"}), {})
    kept.ensure(lock)
    kept.ensure(gone)
    assert kept.prune([lock_hash(lock)]) == [lock_hash(gone)]
    assert kept.find(gone) is None
    assert kept.find(lock) is not None
    default = kept.ensure("")
    assert kept.prune([lock_hash(lock), ""]) == []
    assert kept.prune([lock_hash(lock)]) == ["default"]
    assert not default.exists()
