"""The last plan, on disk: what an agent works by when it starts and the control plane is away."""

from __future__ import annotations

import json
import os
from pathlib import Path

from kaon import log
from kaon.types.plan import NamedPlan, Plan

_log = log.get("agent.plans")


class PlanFile:
    """The plan in one file that only its owner reads: it tells keys' hashes and services' settings."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> NamedPlan | None:
        """The plan kept; None when there is none, or one that this version does not understand.

        One that the release before kept has no name: the control plane is asked for it again.
        """
        try:
            data = json.loads(self._path.read_bytes())
            if isinstance(data, dict) and "plan" not in data:
                return NamedPlan(plan=Plan.model_validate(data))
            return NamedPlan.model_validate(data)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            _log.warning("the plan on disk cannot be used", error=str(error))
            return None

    def keep(self, plan: NamedPlan) -> None:
        """Replace the plan kept, in one step. A full disk costs the plan and not the agent; so does a power cut."""
        beside = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(plan.model_dump_json())
            beside.replace(self._path)
        except OSError as error:
            _log.warning("the plan cannot be kept", error=str(error))
