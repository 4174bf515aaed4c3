"""Upgrades of stored documents of older versions to the current form: pure functions, registered here only.

A resource is stored as two JSON documents, its spec and its status; traffic and the journal have one each. The first
member of every document, `schema`, is its form: the number of upgrades that lead to it, counted from 1. A document
without it has form 1.

A new field with a default, or a removed one, needs no upgrade: unknown fields are ignored. For a renamed field, or a
changed meaning, add a function at the end of the document's tuple: it gets the document in the form before, and returns
it in the new form. Moving data between a spec and its status, or between rows, is a migration of the database
(`kaon.store.migrations`).

A document of a higher form was written by a newer Kaon, and is read as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from kaon.types.kinds import KINDS

JsonObject = dict[str, Any]
Upgrade = Callable[[JsonObject], JsonObject]


def _plan_2(spec: JsonObject) -> JsonObject:
    """Routes listed idempotent calls, which is not reason enough to send them again."""
    plan = spec.get("plan") or {}
    routes = [{name: value for name, value in r.items() if name != "idempotent_paths"} for r in plan.get("routes", ())]
    return {**spec, "plan": {**plan, "routes": routes}}


_ROLLOUT = (
    *("observed_generation", "tried", "state", "reason", "stable", "target"),
    *("canary", "shadow", "since", "assignments"),
)


def _deployment_status_2(status: JsonObject) -> JsonObject:
    """All controllers wrote into one flat status."""
    rollout = {name: status.pop(name) for name in _ROLLOUT if name in status}
    scaling = {"wanted": status.pop("wanted", None), "reason": status.pop("wanted_reason", "")}
    return {**status, "rollout": rollout, "scaling": scaling}


UPGRADES: dict[str, tuple[Upgrade, ...]] = {
    **{f"{kind.name}.{part}": () for kind in KINDS.values() if kind.stored for part in ("spec", "status")},
    "plan.spec": (_plan_2,),
    "deployment.status": (_deployment_status_2,),
    "traffic": (),
    "journal": (),
}
"""Document -> upgrades from form 1 to 2, from 2 to 3, and so on."""


def written(document: str, text: str) -> str:
    """The JSON text of a model as a document with its form."""
    return f"{_mark(document)}{'' if text == '{}' else ','}{text[1:]}"


def upgraded(document: str, text: str) -> str:
    """A document's JSON text in the current form. Raises ValueError when it is no JSON object with a form."""
    if not UPGRADES[document] or text.startswith((f"{_mark(document)},", f"{_mark(document)}}}")):
        return text
    members = json.loads(text)
    if not isinstance(members, dict):
        raise ValueError("it is no JSON object")
    form = members.pop("schema", 1)
    if not isinstance(form, int) or form < 1:
        raise ValueError("its form is no number from 1")
    for upgrade in UPGRADES[document][form - 1 :]:
        members = upgrade(members)
    return json.dumps(members, ensure_ascii=False)


def _mark(document: str) -> str:
    return f'{{"schema":{1 + len(UPGRADES[document])}'
