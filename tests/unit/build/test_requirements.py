"""Requirements of requirements.txt and pyproject.toml."""

from __future__ import annotations

import base64
import functools
import http.server
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kaon.build.archive import extract
from kaon.build.build import Built, build
from kaon.build.environments import Environments
from kaon.build.installer import run_uv
from kaon.build.poetry import bounds
from kaon.build.requirements import Requirements, read_requirements, sha256_of
from kaon.build.sources import find_target
from kaon.errors import BuildError
from kaon.types.artifact import Consent

HASH = "a" * 64


def stated(project: Path, text: str | None = None, *more: str) -> Requirements:
    if text is not None:
        (project / "requirements.txt").write_text(text)
    return read_requirements(find_target("greeter.py:Greeter", project), more)


def run(project: Path, **other: Any) -> Built:
    return build(
        "greeter.py:Greeter",
        folder=project,
        environments=project.parent / "environments",
        out=project.parent / "out",
        **other,
    )


@pytest.mark.parametrize(
    ("line", "packages"),
    [
        ("six", {"six"}),
        ("six==1.16.0  # old", {"six==1.16.0"}),
        ("six>=1,<2", {"six>=1,<2"}),
        ("six~=1.0 ; python_version >= '3.8'", {"six~=1.0 ; python_version >= '3.8'"}),
        ("uvicorn[standard]>=0.20", {"uvicorn[standard]>=0.20"}),
        (f"six==1.0 \\\n    --hash=sha256:{HASH} \\\n    --hash=sha256:{HASH}", {"six==1.0"}),
        ("# six\n\n  \nsix", {"six"}),
        ("kaon>=0.1\nsix", {"six"}),
        ("\ufeffsix\r\n", {"six"}),
        ("--require-hashes\n--prefer-binary\nsix", {"six"}),
    ],
)
def test_packages_are_read_as_pip_reads_them(project: Path, line: str, packages: set[str]) -> None:
    assert stated(project, line).packages == packages


def test_included_files_are_relative_and_read_once(project: Path) -> None:
    (project / "more").mkdir()
    (project / "more/base.txt").write_text("-r ../requirements.txt\n-r deeper.txt\nbase\n")
    (project / "more/deeper.txt").write_text("deeper\n")
    (project / "bounds.txt").write_text("base<2\n")
    found = stated(project, "-r more/base.txt\n--requirement=more/deeper.txt\n-c bounds.txt\nsix\n")
    assert found.packages == {"base", "deeper", "six"}
    assert found.constraints == {"base<2"}


def test_indexes_are_passed_to_uv_and_not_listed_as_names(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "t0ken")
    lines = ["-i https://one.invalid/simple", "--extra-index-url=https://me:${TOKEN}@two.invalid/simple", "--pre"]
    found = stated(project, "\n".join([*lines, "--find-links https://three.invalid/", "--no-binary :all:", "six"]))
    assert found.options == [
        *("--index-url", "https://one.invalid/simple"),
        *("--extra-index-url", "https://me:t0ken@two.invalid/simple"),
        *("--prerelease", "allow"),
        *("--find-links", "https://three.invalid/"),
        *("--no-binary", ":all:"),
    ]
    assert found.names == ("six",)


@pytest.mark.parametrize("line", ["-e .", ".", "--editable .", "-e ./", "-e .[extra]"])
def test_the_projects_own_folder_adds_its_dependencies(project: Path, line: str) -> None:
    (project / "pyproject.toml").write_text(
        "[project]\nname = 'own'\ndependencies = ['six']\n[project.optional-dependencies]\nextra = ['more']\n"
    )
    assert stated(project, line).packages == ({"six", "more"} if "extra" in line else {"six"})


EXTRAS = """
[project]
name = "My_Project"
dependencies = ["six"]
[project.optional-dependencies]
gpu = ["torch"]
Web_App = ["flask"]
all = ["my-project[gpu,web-app]", "rich"]
[dependency-groups]
test = ["pytest"]
dev = ["mypy", {include-group = "test"}, {include-group = "dev"}]
"""


@pytest.mark.parametrize(
    ("lines", "packages"),
    [
        ([], {"six"}),
        ([".[gpu]"], {"six", "torch"}),
        ([".[gpu, web-app]"], {"six", "torch", "flask"}),
        ([".[gpu]", ".[WEB.APP]"], {"six", "torch", "flask"}),
        ([".[all]"], {"six", "torch", "flask", "rich"}),
        (["--group test"], {"six", "pytest"}),
        (["--group=dev"], {"six", "pytest", "mypy"}),
        ([".[gpu]", "--group Dev"], {"six", "torch", "pytest", "mypy"}),
    ],
)
@pytest.mark.parametrize("way", ["class", "command"])
def test_extras_and_groups_of_the_project_are_required_by_the_class_or_the_command(
    project: Path, lines: list[str], packages: set[str], way: str
) -> None:
    (project / "pyproject.toml").write_text(EXTRAS)
    if way == "class":
        source = (project / "greeter.py").read_text()
        (project / "greeter.py").write_text(source.replace("@kaon.service", f"@kaon.service(requirements={lines})"))
        lines = []
    assert stated(project, None, *lines).packages == packages


def test_extras_are_required_beside_a_requirements_file(project: Path) -> None:
    (project / "pyproject.toml").write_text(EXTRAS)
    assert stated(project, "numpy\n", ".[gpu]").packages == {"numpy", "six", "torch"}
    assert stated(project, "numpy\n-e .[gpu]\n--group test\n").packages == {"numpy", "six", "torch", "pytest"}


@pytest.mark.parametrize(
    ("line", "cause", "hint"),
    [
        (".[gpus]", "no extra 'gpus'", "It has: Web_App, all, gpu."),
        ("--group tests", "no dependency group 'tests'", "It has: dev, test."),
        ("--group", "not a requirement", ""),
    ],
)
def test_an_unknown_extra_or_group_is_refused_with_the_known_ones(
    project: Path, line: str, cause: str, hint: str
) -> None:
    (project / "pyproject.toml").write_text(EXTRAS)
    with pytest.raises(BuildError, match=cause) as caught:
        stated(project, None, line)
    assert hint in caught.value.hint


def test_a_build_installs_what_an_extra_requires(project: Path, wheels: Path) -> None:
    (project / "pyproject.toml").write_text(EXTRAS.replace("torch", "tinymath==1.0").replace('"six"', ""))
    (project / "greeter.py").write_text("import tinymath\n" + (project / "greeter.py").read_text())
    assert run(project, require=[".[gpu]"]).manifest.service.requirements == ("tinymath==1.0",)
    with pytest.raises(BuildError, match="tinymath"):
        run(project)


class Index(http.server.SimpleHTTPRequestHandler):
    """A package index of one folder, for one user."""

    def do_GET(self) -> None:
        login = base64.b64encode(b"me:t0ken").decode()
        if self.headers["authorization"] != f"Basic {login}":
            self.send_response(401)
            self.send_header("www-authenticate", "Basic")
            self.end_headers()
            return
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def index(tmp_path: Path, make_wheel: Callable[..., Path]) -> Iterator[str]:
    """The address of an index with the package `mine`, without its login."""
    (tmp_path / "index/simple/mine").mkdir(parents=True)
    make_wheel(tmp_path / "index/simple/mine", "mine", "1.0", "def double(x): return 2 * x\n")
    handler = functools.partial(Index, directory=str(tmp_path / "index"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}/simple"
        server.shutdown()


@pytest.mark.parametrize("way", ["variable", "uv.toml", "requirements.txt"])
def test_a_package_of_a_private_index_is_installed_and_no_login_is_in_the_artifact(
    project: Path, wheels: Path, runtime_wheels: Path, index: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real uv, a real index that asks for a login."""
    settings, url = project.parent / "uv.toml", f"http://me:t0ken@{index}"
    settings.write_text(
        f"[pip]\nfind-links = ['{runtime_wheels}']\n" + (f"extra-index-url = ['{url}']\n" if way == "uv.toml" else "")
    )
    monkeypatch.setenv("TOKEN", "t0ken")
    monkeypatch.setenv("UV_INDEX_URL", f"http://me:t0ken@{index}")  # no other index is asked
    if way == "variable":
        monkeypatch.setenv("UV_EXTRA_INDEX_URL", url)
    option = f"--extra-index-url http://me:${{TOKEN}}@{index}\n" if way == "requirements.txt" else ""
    (project / "requirements.txt").write_text(option + "mine\n")
    (project / "greeter.py").write_text("import mine\n" + (project / "greeter.py").read_text())
    built = run(project)
    assert built.manifest.service.requirements == ("mine",)
    extract(built.path, project.parent / "unpacked", digest=built.digest)
    texts = [file.read_bytes() for file in (project.parent / "unpacked").rglob("*") if file.is_file()]
    assert not [text for text in texts if b"t0ken" in text]
    assert f"mine==1.0 {'--hash=sha256:'}" in (project / "requirements.lock").read_text().replace("\\\n    ", "")


def test_a_conflict_of_two_requirements_says_who_requires_what(
    project: Path, add_wheel: Callable[..., Path], wheels: Path
) -> None:
    add_wheel("one", "1.0", "", "tinymath<1.1")
    add_wheel("two", "1.0", "", "tinymath>=1.1")
    (project / "requirements.txt").write_text("one\ntwo\n")
    with pytest.raises(BuildError) as caught:
        run(project)
    assert "all versions of one depend on tinymath<1.1" in caught.value.cause
    assert "all versions of two depend on tinymath>=1.1" in caught.value.cause
    assert "emscripten" not in caught.value.cause, "systems that nobody asked about"
    assert "Allow other versions" in caught.value.hint


@pytest.mark.parametrize("line", ["./libs/mine-1.0-py3-none-any.whl", "mine @ ./libs/mine-1.0-py3-none-any.whl"])
@pytest.mark.parametrize("marker", ["", " ; python_version > '3'"])
def test_a_wheel_by_path_is_packed_and_installed_from_the_artifact(
    project: Path, wheels: Path, make_wheel: Callable[..., Path], line: str, marker: str
) -> None:
    (project / "libs").mkdir()
    wheel = make_wheel(project / "libs", "mine", "1.0", "def double(x): return 2 * x\n")
    (project / "requirements.txt").write_text(line + marker + "\n")
    (project / ".gitignore").write_text("libs/\n")
    (project / "greeter.py").write_text("import mine\n" + (project / "greeter.py").read_text())
    built = run(project)
    assert [e.path for e in built.manifest.files if e.path.startswith("wheels/")] == [f"wheels/{wheel.name}"]
    assert built.manifest.service.requirements == ("mine==1.0",)
    lock = (project / "requirements.lock").read_text()
    assert f"mine==1.0 --hash=sha256:{sha256_of(wheel)}" in lock.replace("\\\n    ", "").replace(marker, "")
    assert "file:" not in lock
    unpacked = project.parent / "unpacked"
    extract(built.path, unpacked, digest=built.digest)
    wheel.unlink()
    elsewhere = Environments(project.parent / "elsewhere")
    python = elsewhere.ensure((unpacked / "requirements.lock").read_text(), wheels=[unpacked / "wheels"])
    said = subprocess.run(
        [python, "-c", "import mine; print(mine.double(4))"], capture_output=True, text=True, check=True
    )
    assert said.stdout == "8\n"


def test_a_wheel_from_a_folder_of_the_project_is_packed(
    project: Path, wheels: Path, make_wheel: Callable[..., Path]
) -> None:
    (project / "libs").mkdir()
    make_wheel(project / "libs", "mine", "1.0", "")
    make_wheel(project / "libs", "mine", "2.0", "")
    (project / "requirements.txt").write_text("--find-links ./libs\nmine==1.0\ntinymath\n")
    built = run(project)
    found = [entry.path for entry in built.manifest.files if entry.path.startswith("wheels/")]
    assert found == ["wheels/mine-1.0-py3-none-any.whl"]


BACKEND = """
import zipfile
from pathlib import Path

def build_wheel(out, config=None, metadata=None):
    name = "mylib-1.0-py3-none-any.whl"
    info = "mylib-1.0.dist-info/"
    with zipfile.ZipFile(Path(out) / name, "w") as wheel:
        wheel.write("mylib.py", "mylib.py")
        wheel.writestr(zipfile.ZipInfo(info + "METADATA"), "Metadata-Version: 2.1\\nName: mylib\\nVersion: 1.0\\n")
        wheel.writestr(zipfile.ZipInfo(info + "WHEEL"), "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        wheel.writestr(zipfile.ZipInfo(info + "RECORD"), "")
    return name
"""


def test_a_folder_of_another_project_is_packed_as_a_wheel(project: Path, wheels: Path) -> None:
    other = project / "libs/mylib"
    other.mkdir(parents=True)
    (other / "mylib.py").write_text("x = 1\n")
    (other / "backend.py").write_text(BACKEND)
    (other / "pyproject.toml").write_text(
        "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
        "[project]\nname = 'mylib'\nversion = '1.0'\n"
    )
    (project / "requirements.txt").write_text("-e ./libs/mylib\n")
    (project / "greeter.py").write_text("import mylib\n" + (project / "greeter.py").read_text())
    built = run(project)
    assert "wheels/mylib-1.0-py3-none-any.whl" in [entry.path for entry in built.manifest.files]


@pytest.mark.parametrize(
    ("line", "cause", "hint"),
    [
        ("git+https://github.invalid/x/y", "is not the https URL of a wheel", "pip wheel --no-deps -w libs git+https"),
        ("https://x.invalid/y-1.0.tar.gz", "is not the https URL of a wheel", "pip wheel"),
        ("https://x.invalid/y-1.0-py3-none-any.whl", "has no hash", "--hash=sha256"),
        (f"http://x.invalid/y-1.0-py3-none-any.whl --hash=sha256:{HASH}", "is not the https URL of a wheel", "./libs"),
        ("./nowhere", "There is no file or folder", ""),
        ("-r nowhere.txt", "There is no file", ""),
        ("--find-links nowhere", "There is no folder", ""),
        ("--global-option=x", "not a requirement", "paths of wheels or folders"),
        ("@what", "not a requirement", "Use packages"),
    ],
)
def test_an_unsupported_requirement_is_refused_with_a_hint(project: Path, line: str, cause: str, hint: str) -> None:
    with pytest.raises(BuildError, match=cause) as caught:
        stated(project, line)
    assert hint in caught.value.hint


def test_a_wheel_with_a_wrong_hash_is_refused(project: Path, wheels: Path, make_wheel: Callable[..., Path]) -> None:
    make_wheel(project, "mine", "1.0", "")
    (project / "requirements.txt").write_text(f"./mine-1.0-py3-none-any.whl --hash=sha256:{HASH}\n")
    with pytest.raises(BuildError, match="does not have the hash"):
        run(project)


def test_a_conflict_with_the_runtime_names_both_sides(project: Path, add_wheel: Callable[..., Path]) -> None:
    add_wheel("starlette", "0.1", "")
    (project / "requirements.txt").write_text("starlette==0.1\n")
    both_sides = r"The service requires `starlette==0\.1`, and kaon-runtime requires `starlette>="
    with pytest.raises(BuildError, match=both_sides) as caught:
        run(project)
    assert "Allow another version of starlette" in caught.value.hint


@pytest.fixture
def sdist(wheels: Path) -> Path:
    """A package that has sources only, whose building leaves a trace."""
    import io
    import tarfile

    trace = wheels.parent / "built"
    files = {
        "PKG-INFO": "Metadata-Version: 2.1\nName: mylib\nVersion: 1.0\n",
        "pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n",
        "mylib.py": "",
        "backend.py": f"{BACKEND}\nimport os\nopen({str(trace)!r}, 'w').write(repr(dict(os.environ)))\n",
    }
    with tarfile.open(wheels / "mylib-1.0.tar.gz", "w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(f"mylib-1.0/{name}")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return trace


def test_nothing_is_built_from_sources_unless_allowed(project: Path, sdist: Path) -> None:
    (project / "requirements.txt").write_text("mylib\n")
    with pytest.raises(BuildError) as caught:
        run(project)
    assert "--allow sdist" in caught.value.hint
    assert not sdist.exists()


def test_consent_to_build_is_in_the_manifest_and_a_build_gets_a_clean_environment(
    project: Path, sdist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:1")
    (project / "requirements.txt").write_text("mylib\n")
    built = run(project, allow=[Consent.SDIST])
    assert built.manifest.allowed == (Consent.SDIST,)
    assert "s3cret" not in sdist.read_text()
    assert "proxy.invalid" in sdist.read_text()


@pytest.mark.parametrize(
    ("version", "meant"),
    [
        ("*", ""),
        ("^1.2.3", ">=1.2.3,<2"),
        ("^0.2.3", ">=0.2.3,<0.3"),
        ("^0.0.3", ">=0.0.3,<0.0.4"),
        ("^0", ">=0,<1"),
        ("~1.2.3", ">=1.2.3,<1.3"),
        ("~1", ">=1,<2"),
        ("1.2", "==1.2"),
        ("1.*", "==1.*"),
        (">=1.0, <2", ">=1.0,<2"),
        ("~=1.4", "~=1.4"),
    ],
)
def test_versions_of_poetry_are_converted(version: str, meant: str) -> None:
    assert bounds(version) == meant


def test_dependencies_of_poetry_are_read_without_others(project: Path) -> None:
    text = "[tool.poetry.dependencies]\npython = '^3.11'\nsix = '^1.2'\nbig = {version = '1.0', optional = true}\n"
    text += "x = {version = '*', extras = ['y'], markers = \"python_version>'3'\"}\n"
    (project / "pyproject.toml").write_text(text)
    assert stated(project).packages == {"six>=1.2,<2", "x[y] ; python_version>'3'"}
    (project / "pyproject.toml").write_text("[tool.poetry.dependencies]\nz = {git = 'https://x.invalid/z'}\n")
    with pytest.raises(BuildError, match="'z'") as caught:
        stated(project)
    assert "poetry export" in caught.value.hint


def test_a_hanging_run_of_uv_is_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("UV_NO_INDEX", raising=False)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("UV_INDEX_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/simple")
        (tmp_path / "wanted.in").write_text("six\n")
        with pytest.raises(BuildError, match="took more than 1 s"):
            run_uv(["pip", "compile", str(tmp_path / "wanted.in")], "It cannot be.", timeout_s=1.0)
