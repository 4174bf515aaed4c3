import subprocess
import sys

import kaon

NAMES = [
    "AsyncClient", "Audio", "Batch", "Client", "Conflict", "Dataset", "File", "Forbidden", "Image", "InvalidInput",
    "ItemError", "JobFailed", "JobHandle", "KaonError", "NotFound", "Objective", "Output", "Request", "Resources",
    "Response", "TooManyRequests", "Unavailable", "WebSocket", "data_dir", "endpoint", "job", "local", "on_start",
    "on_stop", "progress", "service", "submit", "submitted", "use",
]  # fmt: skip


def test_the_public_names_are_these() -> None:
    assert sorted(kaon.__all__) == NAMES
    for name in NAMES:
        assert getattr(kaon, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(kaon, "serve")


def test_importing_kaon_loads_nothing_heavy() -> None:
    code = """import sys, kaon
heavy = {"httpx2", "starlette", "fastapi", "sqlalchemy", "numpy", "typer", "rich", "structlog", "cryptography",
         "pydantic_settings", "ray", "torch"}
print(sorted(heavy & sys.modules.keys()))"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert answer.stdout.strip() == "[]"
