"""What commands print on terminals of 80 and 120 columns, as files in `terminal/`: nothing wraps, no digit is cut.

`KAON_GOLDEN=write pytest tests/unit/cli/test_terminal.py` writes them; look at each one that changes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.statuses import status_with

from kaon.build.build import Built
from kaon.cli.deploy.result import how_to_call
from kaon.cli.deploy.spec import DeployOptions, merged
from kaon.cli.describe import deployment_page
from kaon.cli.dev.access_log import AccessRecord, access_line
from kaon.cli.rollout.pages import canary_page, shadow_page
from kaon.cli.shared import charts, spec_changes, tables
from kaon.cli.shared.log_lines import log_text
from kaon.cli.shared.notes import failure, note_text
from kaon.cli.shared.output import Format, table_text
from kaon.cli.shared.replica_bounds import ReplicaBounds
from kaon.cli.shared.text import width
from kaon.cli.stats import page as stats_page
from kaon.cli.tune import page as tune_page
from kaon.drivers.port import LogLine
from kaon.errors import KaonError
from kaon.types.deployment import (
    Assignment,
    Canary,
    CanaryArm,
    CanaryGate,
    CanaryStatus,
    DeploymentSpec,
    Rollout,
    RolloutState,
    Scaling,
    ScalingStatus,
    Template,
)
from kaon.types.objective import Objective
from kaon.types.replica import Phase
from kaon.types.shadow import Difference, Example, ShadowReport

from .conftest import WRITE
from .test_golden import DEPLOYMENT, EVENTS, MANIFEST, NOW, REPLICAS, REVISIONS
from .test_logs import TRACEBACK
from .test_stats_page import points, stats, window
from .test_tune_page import NOW as TUNED_AT
from .test_tune_page import STATES

NAME = "product-recommendation"
TEMPLATE = Template(
    artifact="sha256:" + "ab" * 32,
    env={"GREETING": "Hi", "MODEL_URL": "https://models.example.com/recommendation/2026-11/large/model.safetensors"},
    secrets={"API_TOKEN": "recommendation-token"},
)
REASON = "1,234,567 of 2,000,000 calls answered; the 99th percentile of revision 12 is 1,234 ms, that of 11 is 987 ms"
VIEW = DEPLOYMENT.model_copy(
    update={
        "name": NAME,
        "url": f"http://127.0.0.1:8080/~team-with-a-name/{NAME}",
        "workspace": "team-with-a-name",
        "state": RolloutState.PROGRESSING,
        "reason": REASON,
        "ready": 128,
        "replicas": 130,
        "revision": 11,
        "spec": DeploymentSpec(
            template=TEMPLATE, scaling=Scaling(min=2, max=200), rollout=Rollout(canary=Canary(steps=(5, 25, 50)))
        ),
        "status": status_with(
            stable=11,
            target=12,
            scaling=ScalingStatus(wanted=130, reason="12,345.6 calls/s at 40.0 ms each; 493.8 replicas' worth at most"),
            assignments=(
                Assignment(revision=11, replicas=120, ready=118, weight=75),
                Assignment(revision=12, replicas=10, ready=10, weight=25),
            ),
            canary=CanaryStatus(
                revision=12,
                step=1,
                since=NOW - 34,
                in_force=True,
                slow_s=1.25,
                new=CanaryArm(calls=123_456, failed=1_234, timed=120_000, slow=12_345, p99_s=1.234),
                old=CanaryArm(calls=1_523_456, failed=15_234, timed=1_500_000, slow=123_456, p99_s=0.987),
                gates=(
                    CanaryGate(
                        name="errors", verdict="not known yet", leans="worse", odds=98_765, needed=120, reason=""
                    ),
                    CanaryGate(name="slowness", verdict="fine", leans="fine", odds=1e9, needed=120, reason=""),
                ),
            ),
        ),
    }
)
MANY_REPLICAS = [
    REPLICAS[0].model_copy(
        update={
            "name": f"{NAME}-12-{number}",
            "deployment": NAME,
            "revision": 12,
            "phase": phase,
            "reason": reason,
            "last_lines": (),
            "restarts": 1234,
        }
    )
    for number, phase, reason in (
        (0, Phase.READY, ""),
        (1, Phase.INSTALLING, "nvidia-cudnn-cu12 9.10.2.21, 706.8 MB, 14 of 52 packages, 3.4 of 5.1 GB"),
        (127, Phase.CRASHED, "It ended with exit code 137: it used 16.0 GiB of memory, its limit"),
    )
]


def deploy_output(columns: int) -> str:
    built = Built(Path("x"), "sha256:" + "cd" * 32, MANIFEST, 123_456_789)
    options = DeployOptions(env={"GREETING": "Good morning"}, scale=ReplicaBounds(high=300), public=False)
    changed = spec_changes.summary("deployment", NAME, VIEW.spec, merged(VIEW.spec, built, options))
    stopped = KaonError(
        f"The rollout of '{NAME}' stopped; revision 11 still serves. It ended with exit code 1: ValueError: no model",
        hint=f"See why: kaon logs {NAME} --revision 12; then deploy again or: kaon rollout undo {NAME}",
        errors=[{"line": f"last lines of {NAME}-12-0, exit code 1"}, {"line": "  ValueError: no model"}],
    )
    return "\n\n".join(
        (note_text(changed, columns), how_to_call(VIEW, MANIFEST, columns), note_text(failure(stopped), columns))
    )


def canary_output(columns: int) -> str:
    report = ShadowReport(
        revision=12,
        percent=12.5,
        matched=1_234_567,
        differing=12_345,
        missing=123,
        since=NOW - 86_400,
        paths={"items.0.score": 12_000, "items.0.product.description": 345},
        examples=(
            Example(
                at=NOW - 60,
                endpoint="recommend",
                request_id="req-0123456789abcdef",
                differences=(Difference(path="items.0.score", serving=0.123456789, shadow=0.987654321),),
            ),
        ),
    )
    return f"{canary_page(VIEW, NOW, columns)}\n\n{shadow_page(NAME, report, NOW, columns)}"


def stats_output(columns: int) -> str:
    busy = {"rps": 123_456.7, "p50_s": 0.0123, "p90_s": 1.234, "p99_s": 12.345, "in_flight": 12_345, "queued": 6_789}
    windows = tuple(window(span, arrivals=1_481_480, ready=128, **busy) for span in (12, 60, 1800))
    found = stats(points(120), windows=windows, deployment=NAME)
    return charts.text(stats_page.page(found, columns))


def tune_output(columns: int) -> str:
    return charts.text(tune_page.page(STATES["canary"], TUNED_AT, columns))


def logs_output(columns: int) -> str:
    def line(at: float, **fields: Any) -> LogLine:
        return LogLine(replica=f"{NAME}-12-127", at=at, text=json.dumps(fields))

    written = [
        LogLine(replica=f"{NAME}-12-127", at=NOW, text="loading the model: 1.2 of 13.5 GB"),
        line(NOW + 1.5, event="ready after 12.34 s", level="info"),
        line(
            NOW + 2, event="slow", level="warning", took_s=1.234567, endpoint="recommend", request_id="a1b2c3d4e5f60000"
        ),
        line(NOW + 3, event="the handler failed", level="error", exception=TRACEBACK, request_id="a1b2c3d4e5f60001"),
    ]
    return "\n".join(text for entry in written for text in log_text(entry, columns=columns))


def ps_output(columns: int) -> str:
    deployments = table_text([VIEW, DEPLOYMENT], tables.of("deployment", NOW), Format.TABLE, columns)
    return f"{deployments}\n\n{table_text(MANY_REPLICAS, tables.of('replica', NOW), Format.TABLE, columns)}"


def describe_output(columns: int) -> str:
    return deployment_page(VIEW, REVISIONS, MANY_REPLICAS, EVENTS, Objective(), NOW, "", columns)


def dev_output(columns: int) -> str:
    calls = [
        AccessRecord(NOW, "POST", f"/{NAME}/recommend", 200, 0.00312),
        AccessRecord(NOW + 1.5, "GET", f"/{NAME}/products/by-category/{'household-' * 8}/12345", 404, 0.0123),
        AccessRecord(NOW + 2, "POST", f"/{NAME}/v1/chat/completions", 503, 12.345),
        AccessRecord(NOW + 3, "GET", f"/{NAME}/stream", 0, 123.456),
    ]
    return "\n".join(access_line(call, columns=columns) for call in calls)


OUTPUTS: dict[str, Callable[[int], str]] = {
    "deploy": deploy_output,
    "canary": canary_output,
    "stats": stats_output,
    "tune": tune_output,
    "logs": logs_output,
    "ps": ps_output,
    "describe": describe_output,
    "dev": dev_output,
}
_WHOLE = re.compile(r"^(curl |  -[Hd] |  kaon key create |\s*\S+$)")
"""Lines that are wider than the terminal so that they can be copied: a command to paste, one long word."""


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("command", OUTPUTS)
def test_output_fits_the_terminal(command: str, columns: int, kaon_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAON_KEY", "kaon_x")
    text = OUTPUTS[command](columns)
    file = Path(__file__).parent / "terminal" / f"{command}-{columns}.txt"
    if WRITE:
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{text}\n", encoding="utf-8")
    assert file.read_text(encoding="utf-8") == f"{text}\n"
    lines = text.split("\n")
    assert [line for line in lines if width(line) > columns and not _WHOLE.match(line)] == []
    assert [line for line in lines if re.search(r"\d…", line)] == [], "a digit is cut"
    assert len(lines) <= 60, "it floods the terminal"
    assert "\x1b" not in text


@pytest.mark.parametrize("columns", ["80", "120"])
def test_what_init_prints_fits(run: Any, project: Path, columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    said = run("init", NAME)
    text = f"$ kaon init {NAME}\n{said.out}{note_text(said.err, int(columns))}"
    file = Path(__file__).parent / "terminal" / f"init-{columns}.txt"
    if WRITE:
        file.write_text(text, encoding="utf-8")
    assert file.read_text(encoding="utf-8") == text
    assert max(map(width, text.split("\n"))) <= int(columns)
