"""Which files are packed, which are left out, and which fail the build."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kaon.build.collecting import PackedFiles, check, collect
from kaon.build.sources import find_target
from kaon.errors import BuildError, InvalidInput

BODY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDJ"
KEY = f"-----BEGIN PRIVATE KEY-----\n{BODY}\n-----END PRIVATE KEY-----\n"


def collected(project: Path, *include: str, allow_pickles: bool = False) -> PackedFiles:
    found = collect(dataclasses.replace(find_target("greeter.py:Greeter", project), include=include))
    check(found, allow_pickles=allow_pickles)
    return found


def packed(project: Path, *include: str, allow_pickles: bool = False) -> list[str]:
    return list(collected(project, *include, allow_pickles=allow_pickles).files)


def left_out(project: Path) -> dict[str, str]:
    return {left.path: left.reason for left in collected(project).unexpected}


def put(folder: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


# --- left out files --------------------------------------------------------------------------------------------


def test_ignored_and_hidden_files_and_caches_are_left_out(project: Path) -> None:
    put(
        project,
        {".git/config": "", ".gitignore": "*.csv\n!keep.csv\nbuild/\n", "data/.gitignore": "!deep.csv\n*.tmp\n"},
    )
    for name in (".env", "a.csv", "keep.csv", "a.pyc", "data/deep.csv", "data/other.csv", "data/x.tmp", "data/ok.txt"):
        put(project, {name: "x"})
    for folder in ("__pycache__", ".venv", "build", "node_modules", "my-venv"):
        put(project, {f"{folder}/file.txt": "x"})
    put(project, {"my-venv/pyvenv.cfg": "home = /usr\n"})
    assert packed(project) == ["data/deep.csv", "data/ok.txt", "greeter.py", "keep.csv"]


def test_left_out_files_are_reported_with_the_reason_but_caches_are_not(project: Path) -> None:
    put(project, {".gitignore": "# weights\n*.onnx\nfront/\n", "model.onnx": "x", "front/index.html": "x", ".env": "x"})
    put(project, {"data/.gitignore": "x.bin\n", "data/x.bin": "x", "__pycache__/a.pyc": "x", ".mypy_cache/a": "x"})
    assert left_out(project) == {
        ".env": "hidden",
        "data/x.bin": "data/.gitignore line 1: x.bin",
        "front/": ".gitignore line 3: front/",
        "model.onnx": ".gitignore line 2: *.onnx",
    }


def test_rules_of_the_repository_apply_in_its_folders(project: Path) -> None:
    put(project.parent, {".git/config": "", ".gitignore": "/project/big/\n*.log\n"})
    put(project, {"big/x.txt": "x", "a.log": "x"})
    assert packed(project) == ["greeter.py"]
    assert left_out(project)["a.log"] == "../.gitignore line 2: *.log"


def test_a_front_end_in_dist_is_packed_and_built_packages_are_not(project: Path) -> None:
    put(project, {"dist/index.html": "x", "dist/mine-1.0.whl": "x", "dist/greeter-0123456789ab.tar.gz": "x"})
    put(project, {"out/greeter-0123456789ab.tar.gz": "x", "out/words.tar.gz": "x"})
    assert packed(project) == ["dist/index.html", "greeter.py", "out/words.tar.gz"]


def test_the_platforms_home_is_never_packed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAON_HOME", str(project / "kaon-home"))
    put(project, {"kaon-home/admin.key": "kaon_secret"})
    assert packed(project) == ["greeter.py"]
    (project / "link").symlink_to("kaon-home/admin.key")
    with pytest.raises(BuildError, match="the home of Kaon"):
        collected(project)


def test_a_too_long_gitignore_is_refused(project: Path) -> None:
    put(project, {".gitignore": "".join(f"a{n}\n" for n in range(3000))})
    with pytest.raises(BuildError, match="more than 2000 patterns"):
        collected(project)


def real_venv(folder: Path) -> None:
    venv.create(folder, symlinks=True)


def venv_without_its_mark(folder: Path) -> None:
    venv.create(folder, symlinks=True)
    (folder / "pyvenv.cfg").unlink()


def conda(folder: Path) -> None:
    put(folder, {"conda-meta/history": "", "bin/python": "", "lib/libpython.so": ""})


def windows(folder: Path) -> None:
    put(folder, {"Scripts/python.exe": "", "Lib/site-packages/six.py": ""})


@pytest.mark.parametrize("make", [real_venv, venv_without_its_mark, conda, windows])
@pytest.mark.parametrize("name", ["my-environment", "deep/er/python"])
def test_an_environment_is_left_out_under_any_name_unless_it_is_included(
    project: Path, make: Callable[[Path], None], name: str
) -> None:
    make(project / name)
    assert packed(project) == ["greeter.py"]
    assert left_out(project) == {}, "nobody misses it"
    assert [(left.path, left.reason) for left in collected(project).left_out] == [(f"{name}/", "an environment")]
    (project / name / "one.txt").write_text("x")
    assert packed(project, f"{name}/one.txt") == sorted(["greeter.py", f"{name}/one.txt"])


def test_a_folder_with_a_program_named_python_is_no_environment(project: Path) -> None:
    put(project, {"bin/python": "x", "lib/words.txt": "x"})
    assert packed(project) == ["bin/python", "greeter.py", "lib/words.txt"]


# --- included files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("include", "found"),
    [
        ("model.onnx", ["model.onnx"]),
        ("./model.onnx", ["model.onnx"]),
        ("*.onnx", ["model.onnx"]),
        ("front", ["front/app/main.js", "front/index.html"]),
        ("front/", ["front/app/main.js", "front/index.html"]),
        ("front/app/*.js", ["front/app/main.js"]),
        ("front/**/main.js", ["front/app/main.js"]),
        ("**/*.js", ["front/app/main.js"]),
        (".streamlit/config.toml", [".streamlit/config.toml"]),
    ],
)
def test_a_left_out_file_is_packed_when_it_is_included(project: Path, include: str, found: list[str]) -> None:
    put(project, {".gitignore": "*.onnx\nfront/\n", "model.onnx": "x", "front/index.html": "x"})
    put(project, {"front/app/main.js": "x", ".streamlit/config.toml": "x"})
    assert packed(project, include) == sorted([*found, "greeter.py"])


def test_the_project_can_set_included_files(project: Path) -> None:
    put(project, {".gitignore": "*.onnx\n", "model.onnx": "x"})
    put(project, {"pyproject.toml": '[tool.kaon]\ninclude = ["model.onnx"]\n'})
    assert find_target("greeter.py:Greeter", project).include == ("model.onnx",)


def test_an_include_without_a_match_is_an_error(project: Path) -> None:
    with pytest.raises(BuildError, match=r"No file matches 'model\.onnx'"):
        collected(project, "model.onnx")


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a/../../b", ""])
def test_an_include_stays_within_the_project(project: Path, path: str) -> None:
    with pytest.raises(InvalidInput, match="not a path within the project"):
        collected(project, path)


# --- links ------------------------------------------------------------------------------------------------------


def test_links_within_the_project_are_followed(project: Path) -> None:
    put(project, {"blobs/3f2a": "weights", "data/words.txt": "words"})
    (project / "model").mkdir()
    (project / "model/config.json").symlink_to("../blobs/3f2a")
    (project / "texts").symlink_to("data")
    found = collected(project).files
    assert list(found) == ["blobs/3f2a", "data/words.txt", "greeter.py", "model/config.json", "texts/words.txt"]
    assert found["model/config.json"].read_text() == "weights"


@pytest.mark.parametrize("to", ["/etc/passwd", "missing", "..", "../other.txt"])
def test_a_link_that_leads_out_or_nowhere_is_refused_with_its_target(project: Path, to: str) -> None:
    (project.parent / "other.txt").write_text("x")
    (project / "link").symlink_to(to)
    with pytest.raises(BuildError, match=f"link is a link to {to}") as caught:
        collected(project)
    assert ".gitignore" in caught.value.hint


def test_cyclic_links_are_refused(project: Path) -> None:
    put(project, {"a/b/x.txt": "x"})
    (project / "a/b/back").symlink_to("..")
    with pytest.raises(BuildError, match="a folder that contains the link"):
        collected(project)


def test_an_ignored_link_is_left_out(project: Path) -> None:
    (project / "link").symlink_to("/etc/passwd")
    (project / ".gitignore").write_text("link\n")
    assert packed(project) == ["greeter.py"]


def test_a_pipe_is_refused(project: Path) -> None:
    os.mkfifo(project / "pipe")
    with pytest.raises(BuildError, match="pipe is not a regular file"):
        collected(project)


# --- secrets ----------------------------------------------------------------------------------------------------

NAMED = [
    "prod.env",
    "id_rsa",
    "keys/id_ed25519",
    "store.p12",
    "_netrc",
    "credentials",
    "Credentials.json",
    "client_secret_1.json",
    "kubeconfig",
    "secrets.yaml",
    "terraform.tfstate",
    "old/admin.key",
]
HIDDEN = [".env", ".env.local", ".netrc", ".pypirc", ".git-credentials", ".ssh/config", ".aws/config", ".kube/config"]
WRITTEN = {
    "server.pem": KEY,
    "notes.txt": f"my key:\n-----BEGIN RSA PRIVATE KEY-----\r\nProc-Type: 4,ENCRYPTED\r\n\r\n{BODY}\r\n",
    "account.json": json.dumps({"type": "service_account", "private_key": KEY}),
    "user.json": json.dumps({"type": "authorized_user", "refresh_token": "1//abc"}),
    "config.py": f'KEY = """-----BEGIN EC PRIVATE KEY-----\n{BODY}"""\n',
    "weights.bin": b"\0" * 3_000_000 + KEY.encode(),
    "key.asc": f"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{BODY}\n",
    "settings.ini": "key = kaon_" + "a" * 43 + "\n",
    "cluster.yaml": "current-context: x\nclusters: []\nusers:\n- user:\n    token: abc\n",
}
HARMLESS = {
    ".env.example": "TOKEN=\n",
    "id_rsa.pub": "ssh-rsa AAAA\n",
    "server.crt": f"-----BEGIN CERTIFICATE-----\n{BODY}\n",
    "public.pem": f"-----BEGIN PUBLIC KEY-----\n{BODY}\n",
    "reader.py": 'HEAD = "-----BEGIN PRIVATE KEY-----"\nKEY = "kaon_..."\n',
    "environment.py": "kaon_requests_total = 3\n",
}


@pytest.mark.parametrize("name", NAMED)
def test_a_file_with_the_name_of_a_secret_fails_the_build(project: Path, name: str) -> None:
    put(project, {name: "x"})
    with pytest.raises(BuildError, match=f"{name} holds ") as caught:
        collected(project)
    assert f"--include {name}" in caught.value.hint
    assert "kaon secret set" in caught.value.hint


@pytest.mark.parametrize("name", WRITTEN)
def test_a_secret_in_a_file_of_any_name_fails_the_build(project: Path, name: str) -> None:
    put(project, {name: WRITTEN[name]})
    with pytest.raises(BuildError, match=f"{name} holds "):
        collected(project)


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_secrets_are_left_out_and_a_pattern_does_not_include_them(project: Path, name: str) -> None:
    put(project, {name: "x"})
    assert packed(project) == ["greeter.py"]
    with pytest.raises(BuildError, match=f"{name} holds "):
        collected(project, "**/*")
    assert name in packed(project, name)


@pytest.mark.parametrize("name", HARMLESS)
def test_public_keys_examples_and_programs_that_read_keys_are_not_secrets(project: Path, name: str) -> None:
    put(project, {name: HARMLESS[name]})
    assert name in packed(project, *([name] if name.startswith(".") else []))


def test_a_secret_that_is_ignored_or_named_does_not_fail_the_build(project: Path) -> None:
    put(project, {"server.pem": KEY, "other.pem": KEY, ".gitignore": "other.pem\n"})
    assert packed(project, "server.pem") == ["greeter.py", "server.pem"]


@pytest.mark.parametrize("at", [0, 2**22 - len(KEY), 2**22 - 100, 2**22 - 30, 2**22 - 1, 2**22, 2**23 - 30])
def test_a_secret_is_found_at_any_place_of_a_large_file(project: Path, at: int) -> None:
    (project / "weights.bin").write_bytes(b"\0" * at + KEY.encode() + b"\0" * 1000)
    with pytest.raises(BuildError, match=r"weights\.bin holds a private key"):
        collected(project)


def test_a_link_does_not_hide_a_secret(project: Path) -> None:
    put(project, {".env": "TOKEN=x"})
    (project / "settings.txt").symlink_to(".env")
    with pytest.raises(BuildError, match=r"settings\.txt holds variables"):
        collected(project)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("requirements.txt", "--extra-index-url https://me:t0ken@index.example/simple\nsix\n"),
        ("requirements/base.in", "-r x\n--index-url=https://me:t0ken@index.example/simple\n"),
        ("uv.toml", '[[index]]\nurl = "https://me:t0ken@index.example/simple"\n'),
        ("pyproject.toml", '[tool.uv]\nextra-index-url = ["https://me:t0ken@index.example/simple"]\n'),
        ("pip.conf", "[global]\nindex-url = https://me:t0ken@index.example/simple\n"),
    ],
)
def test_the_login_of_a_package_index_fails_the_build_and_a_variable_does_not(
    project: Path, name: str, text: str
) -> None:
    put(project, {name: text})
    with pytest.raises(BuildError, match=f"{name} holds logins of package indexes"):
        collected(project)
    put(project, {name: text.replace("t0ken", "${TOKEN}")})
    assert name in packed(project)
    put(project, {name: text.replace("me:t0ken@", "")})
    assert name in packed(project)


# --- pickles ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.pkl", "a.PICKLE", "a.joblib", "a.pt", "a.pth", "a.ckpt", "a.dill", "deep/a.pkl"])
def test_a_pickle_is_refused_by_name(project: Path, name: str) -> None:
    put(project, {name: "x"})
    with pytest.raises(BuildError, match=f"Pickles are not packed.*{name}") as caught:
        collected(project)
    for way in ("@kaon.service(allow_pickle=True)", "--allow-pickle", "safetensors", ".gitignore"):
        assert way in caught.value.hint


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_pickle_is_refused_under_any_name(project: Path, protocol: int) -> None:
    (project / "model.bin").write_bytes(pickle.dumps([], protocol))
    with pytest.raises(BuildError, match=r"model\.bin"):
        collected(project)


def test_an_archive_of_pytorch_is_a_pickle_and_other_archives_are_not(project: Path) -> None:
    for name, content in (("pytorch_model.bin", "archive/data.pkl"), ("words.zip", "words.txt")):
        with zipfile.ZipFile(project / name, "w") as archive:
            archive.writestr(content, b"x")
    put(project, {"broken.zip": b"PK\x03\x04 and no more"})
    assert collected(project, allow_pickles=True).pickles == ["pytorch_model.bin"]


def test_all_pickles_are_named_at_once(project: Path) -> None:
    put(project, {f"{number:02}.pkl": "x" for number in range(12)})
    with pytest.raises(BuildError, match=r"00\.pkl, 01\.pkl, .*09\.pkl and 2 more"):
        collected(project)


def test_pickles_are_packed_when_allowed(project: Path) -> None:
    (project / "model.pkl").write_bytes(pickle.dumps([]))
    assert packed(project, allow_pickles=True) == ["greeter.py", "model.pkl"]
