"""What `deploy` prints at its end: the deployment's URL, a curl sample, and next commands."""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Mapping
from typing import Any

from kaon.api.views import DeploymentView
from kaon.cli.shared import tables
from kaon.cli.shared.notes import note
from kaon.cli.shared.output import Format, put, put_one, terminal_columns
from kaon.cli.shared.remote import Remote
from kaon.cli.shared.rollout_wait import awaits_promotion, until_rolled_out
from kaon.cli.shared.text import fitted, plain
from kaon.client import contexts
from kaon.settings import Settings
from kaon.types.artifact import Manifest

_SHELL_SAFE_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]/~-]+")


def finish(remote: Remote, view: DeploymentView, manifest: Manifest, wait_s: float | None, form: Format) -> None:
    """Wait for the rollout, unless `wait_s` is None, and print the deployment."""
    if wait_s is not None:
        view = until_rolled_out(remote, view.name, wait_s)
    if form is not Format.TABLE:
        put_one(view, tables.of("deployment", time.time()), form)
    elif wait_s is None:
        put(f"{plain(view.name)}: {view.state}. Watch it: kaon rollout status {plain(view.name)}")
    else:
        put(how_to_call(view, manifest, terminal_columns()))
    if view.spec.shadow:
        percent = f"{view.spec.shadow.percent:g} %"
        note(f"The new revision gets copies of {percent} of the calls: kaon rollout diff {view.name}")
    if awaits_promotion(view):
        note(f"The canary has passed all steps: kaon rollout promote {view.name}")
    if view.spec.paused:
        note(f"Rollouts are paused; the current revision serves. Resume them: kaon rollout resume {view.name}")


def how_to_call(view: DeploymentView, manifest: Manifest, columns: int | None = None) -> str:
    """The URL, and a curl line that works when pasted; sentences fit `columns`, if given."""
    lines = fitted(f"{view.name} answers at {view.url}", columns)
    sample = _curl_sample(manifest.service.openapi)
    if sample and _SHELL_SAFE_URL.fullmatch(view.url):
        sample = sample.replace("$KAON_URL", view.url).replace("$KAON_KEY", _key_expression())
        lines += ["", plain(sample, keep="\n")]
    if not view.spec.public:
        lines += ["", "Calls need a key. Create one:", f"  {_key_command(view)}"]
    return "\n".join(lines)


def _curl_sample(openapi: Mapping[str, Any]) -> str:
    """The curl sample of the first endpoint that has one."""
    for path in openapi.get("paths", {}).values():
        for operation in path.values():
            for code in operation.get("x-codeSamples", []):
                if code.get("label") == "curl":
                    return str(code["source"])
    return ""


def _key_expression() -> str:
    """The key as a shell expression: the key itself would stay in the shell's history."""
    if os.environ.get("KAON_KEY"):
        return "$KAON_KEY"
    file = contexts.in_use().key_file or str(Settings().admin_key_file)
    return f"$(cat {shlex.quote(file)})"


def _key_command(view: DeploymentView) -> str:
    workspace = "" if view.workspace == contexts.in_use().workspace else f" -w {view.workspace}"
    return f"kaon key create NAME --role caller --deployment {view.name}{workspace}"
