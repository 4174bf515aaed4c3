"""Versions: given, passed on, and made of the content only where nobody gave one."""

from __future__ import annotations

import hashlib
import json

import pytest
from pydantic import ValidationError

from kaon.types.key import Access, Grant
from kaon.types.knobs import Knobs, PlannedKnobs
from kaon.types.plan import PartAccess, expanded
from kaon.types.refusals import Refusals
from kaon.types.versioned import Versioned

AS_BEFORE = {
    '{"grants":[],"public":true}': Access(public=True),
    '{"concurrency":null,"max_batch":2,"max_wait_s":null}': Knobs(max_batch=2),
    '{"request_ids":["a"]}': Refusals(request_ids=("a",)),
}


@pytest.mark.parametrize("text", AS_BEFORE)
def test_what_has_no_version_is_named_as_replicas_of_the_release_before_name_it(text: str) -> None:
    assert AS_BEFORE[text].named().version == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("value", AS_BEFORE.values(), ids=lambda value: type(value).__name__)
def test_a_version_that_was_given_stays_and_is_no_part_of_the_body(value: Versioned) -> None:
    given = type(value)(**{**dict(value), "version": "given"})
    assert given.named() is given
    assert given.body() == value.body()
    assert "version" not in json.loads(value.body())


@pytest.mark.parametrize("version", ["a b", "a/b", "?", "é", "a" * 65, "\n"])
def test_a_version_may_stand_in_a_url(version: str) -> None:
    with pytest.raises(ValidationError):
        Knobs(version=version)


def test_knobs_of_a_plan_are_all_named() -> None:
    named = PlannedKnobs(force=Knobs(version="given"), trial=Knobs(max_batch=2)).named()
    assert named.trial is not None
    assert (named.force.version, named.trial) == ("given", Knobs(max_batch=2).named())


def test_a_missing_group_lets_no_key_in() -> None:
    ann, ben = Grant(hash="1", key="ann"), Grant(hash="0", key="ben")
    access = expanded(PartAccess(groups=("b", "gone", "a"), version="v"), {"a": (ann,), "b": (ben,)})
    assert access == Access(grants=(ann, ben), version="v")
