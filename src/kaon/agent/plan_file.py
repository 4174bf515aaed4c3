"""Plans as an agent reads them, and the last one on disk, which it applies while the control plane is unreachable."""

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
    """Reads plans. A part that is equal to that of the previous plan stays the same object: it is not parsed again."""

    def __init__(self) -> None:
        self._parts: dict[str, tuple[Any, PlanPart]] = {}

    def read(self, text: bytes) -> Plan:
        """A plan in JSON, also in the form of the previous release. Raises `ValueError` when it is none."""
        data = from_json(text)
        if not isinstance(data, dict) or not isinstance(data.get("parts"), dict):
            return Plan.model_validate(data)
        rest = Plan.model_validate({**data, "parts": {}})
        self._parts = {name: self._part(name, part) for name, part in data["parts"].items()}
        parts = {name: part for name, (_, part) in self._parts.items()}
        return Plan.of(rest.cloud, rest.grants, parts, rest.attempts)

    def _part(self, name: str, data: Any) -> tuple[Any, PlanPart]:
        previous = self._parts.get(name)
        return previous if previous and previous[0] == data else (data, PlanPart.model_validate(data))


class PlanFile:
    """The plan in a file that only its owner can read: it contains hashes of keys and settings of services."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> NamedPlan | None:
        """The stored plan; None when there is none, or one that this version cannot read.

        One that the previous release stored has no name, so that it is fetched again.
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
        """Replace the stored plan, in one step. A failure is logged: the agent works without the file."""
        new = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(plan.model_dump_json())
            new.replace(self._path)
        except OSError as error:
            _log.warning("the plan cannot be stored", error=str(error))
