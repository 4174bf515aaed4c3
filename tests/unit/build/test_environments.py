from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kaon.build.environments import Environments, lock_hash
from kaon.build.locks import resolve
from kaon.build.requirements import Requirements
from kaon.errors import BuildError, InvalidInput


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "environments"


@pytest.fixture
def lock(wheels: Path) -> str:
    return resolve(Requirements(packages={"tinymath==1.0"}), {})


def said(python: Path, code: str) -> str:
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_no_lock_is_the_platforms_own_interpreter(root: Path) -> None:
    assert Environments(root).ensure("") == Path(sys.executable)
    assert not root.exists()


def test_it_has_the_locks_packages_first_and_the_platforms_after(root: Path, lock: str) -> None:
    python = Environments(root).ensure(lock)
    assert said(python, "import tinymath; print(tinymath.double(4))") == "8"
    assert said(python, "import kaon, pydantic; print(kaon.__name__)") == "kaon"
    order = said(
        python,
        "import sys, tinymath, pydantic, os.path as p; d=lambda m: p.dirname(m.__file__); "
        "print(sys.path.index(d(tinymath)) < sys.path.index(p.dirname(d(pydantic))))",
    )
    assert order == "True"


def test_what_is_being_installed_is_said_on_the_way(root: Path, lock: str) -> None:
    said_so_far: list[str] = []
    Environments(root).ensure(lock, progress=said_so_far.append)
    assert said_so_far[0] == "making the environment"
    assert "fetching 1 package" in said_so_far
    assert said_so_far[-1] == "compiling 1 package"
    Environments(root).ensure(lock, progress=said_so_far.append)
    assert said_so_far[-1] == "compiling 1 package", "what is there already is not installed"


def test_it_is_read_only_and_linked_from_the_cache(root: Path, lock: str) -> None:
    module = Path(said(Environments(root).ensure(lock), "import tinymath; print(tinymath.__file__)"))
    assert module.stat().st_mode & 0o222 == 0
    assert module.parent.stat().st_mode & 0o222 == 0
    assert module.stat().st_nlink > 1


def test_the_second_time_it_is_there_and_needs_neither_uv_nor_packages(root: Path, lock: str, wheels: Path) -> None:
    first = Environments(root).ensure(lock)
    for wheel in wheels.iterdir():
        wheel.unlink()
    assert Environments(root).find(lock) == Environments(root).ensure(lock) == first


def test_another_place_is_filled_from_the_cache_alone(
    root: Path, lock: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Environments(root).ensure(lock)
    monkeypatch.setenv("UV_OFFLINE", "1")
    python = Environments(tmp_path / "other").ensure(lock)
    assert said(python, "import tinymath; print(tinymath.double(1))") == "2"


def test_a_dead_process_leaves_nothing_in_the_way(root: Path, lock: str) -> None:
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
    said_by = {process.communicate(timeout=60)[0] for process in running}
    assert [process.returncode for process in running] == [0] * 4
    assert len(said_by) == 1


def test_a_wrong_hash_is_refused_and_leaves_no_environment(root: Path, lock: str) -> None:
    bad = "".join(f"{line}\n" for line in lock.splitlines())
    bad = bad[: bad.index("sha256:", bad.index("--hash")) + 7] + "0" * 64 + "\n"
    with pytest.raises(BuildError, match="installed"):
        Environments(root).ensure(bad)
    assert Environments(root).find(bad) is None


def test_a_lock_with_more_than_pins_never_reaches_uv(root: Path) -> None:
    with pytest.raises(InvalidInput):
        Environments(root).ensure("--index-url https://evil.invalid\n")


def test_prune_keeps_what_it_is_told_to(root: Path, lock: str) -> None:
    kept, gone = Environments(root), resolve(Requirements(packages={"tinymath==1.1"}), {})
    kept.ensure(lock)
    kept.ensure(gone)
    assert kept.prune([lock_hash(lock)]) == [lock_hash(gone)]
    assert kept.find(gone) is None
    assert kept.find(lock) is not None
