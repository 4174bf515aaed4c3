"""Plans as an agent reads them, and the last one on disk: what it works by when the control plane is away."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from kaon import log
from kaon.types.plan import NamedPlan, Plan, PlanPart

_log = log.get("agent.plans")


class PlanReader:
    """Reads one plan after the other. A part that says what it said before is the same object: it is not made again."""

    def __init__(self) -> None:
        self._parts: dict[str, tuple[Any, PlanPart]] = {}

    def read(self, text: bytes) -> Plan:
        """A plan in JSON, also one of the release before. Raises `ValueError` for what is none."""
        data = from_json(text)
        if not isinstance(data, dict) or not isinstance(data.get("parts"), dict):
            return Plan.model_validate(data)
        rest = Plan.model_validate({**data, "parts": {}})
        self._parts = {name: self._part(name, part) for name, part in data["parts"].items()}
        return Plan.of(rest.cloud, rest.grants, {name: part for name, (_, part) in self._parts.items()})

    def _part(self, name: str, data: Any) -> tuple[Any, PlanPart]:
        known = self._parts.get(name)
        return known if known and known[0] == data else (data, PlanPart.model_validate(data))


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
