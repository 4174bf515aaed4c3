"""A missing file that was left out of the artifact is explained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kaon.sdk.left_out import explanation, reason
from kaon.types.artifact import MANIFEST, IgnoreFile, Manifest
from kaon.types.service import ServiceSpec

IGNORED = (
    IgnoreFile(name="../.gitignore", below="service/", lines=((1, "/service/big/"), (2, "*.log"))),
    IgnoreFile(name=".gitignore", lines=((1, "*.onnx"), (3, "!keep.onnx"))),
    IgnoreFile(name="data/.gitignore", folder="data/", lines=((1, "!*.log"), (2, "x.bin"))),
)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("model.onnx", ".gitignore line 1: *.onnx"),
        ("deep/model.onnx", ".gitignore line 1: *.onnx"),
        ("keep.onnx", ""),
        ("big/x/y.txt", "../.gitignore line 1: /service/big/"),
        ("a.log", "../.gitignore line 2: *.log"),
        ("data/a.log", ""),
        ("data/x.bin", "data/.gitignore line 2: x.bin"),
        ("x.bin", ""),
        (".env", "it is hidden"),
        (".cache/model.bin", "it is hidden"),
        ("words.txt", ""),
    ],
)
def test_the_innermost_matching_rule_is_the_reason(path: str, why: str) -> None:
    assert reason(path, IGNORED) == why


@pytest.fixture
def code_dir(tmp_path: Path) -> Path:
    """The sources of an unpacked artifact."""
    service = ServiceSpec(name="greeter", entry="greeter:Greeter")
    manifest = Manifest(kaon="0", python="3.11", service=service, files=(), ignored=IGNORED)
    (tmp_path / "artifact/src").mkdir(parents=True)
    (tmp_path / "artifact" / MANIFEST).write_text(json.dumps(manifest.model_dump(mode="json")))
    return tmp_path / "artifact/src"


def raised(path: str) -> Exception:
    try:
        open(path)  # noqa: SIM115
    except OSError as error:
        return error
    raise AssertionError(path)


def test_the_explanation_has_the_option_that_packs_the_file(code_dir: Path) -> None:
    for error in (raised(str(code_dir / "model.onnx")), raised("model.onnx")):
        said = explanation(error, code_dir)
        assert said.startswith("model.onnx was left out of the artifact when it was built (.gitignore line 1: *.onnx).")
        assert said.endswith("--include model.onnx")


def test_causes_and_texts_of_library_errors_are_searched(code_dir: Path) -> None:
    wrapped = RuntimeError("cannot load")
    wrapped.__cause__ = raised("model.onnx")
    assert "model.onnx was left out" in explanation(wrapped, code_dir)
    said = RuntimeError("[ONNXRuntimeError] : 3 : NO_SUCHFILE : Load model from models/a.onnx failed: no such file")
    assert "models/a.onnx was left out" in explanation(said, code_dir)


def test_files_that_exist_or_are_elsewhere_or_were_not_left_out_are_not_explained(code_dir: Path) -> None:
    (code_dir / "there.onnx").write_text("")
    errors = [raised("words.txt"), raised("/nowhere/model.onnx"), ValueError("bad 'there.onnx'"), ValueError("x")]
    assert [explanation(error, code_dir) for error in errors] == [""] * 4
    assert explanation(raised("model.onnx"), code_dir / "no artifact") == ""
