"""Datasets as values: manifests, differences, references, retention."""

from __future__ import annotations

import hashlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaon.errors import InvalidInput
from kaon.laws.datasets import (
    check_files,
    difference,
    expired,
    manifest_of,
    problem_of_path,
    ranges,
    reference,
    resolved,
    size_of,
)
from kaon.types.dataset import DatasetFile, DatasetManifest
from kaon.types.model import content_hash

names = st.from_regex(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True)
paths = st.lists(st.text("abcé.", min_size=1, max_size=3), min_size=1, max_size=3).map("/".join)
valid_paths = paths.filter(lambda path: not problem_of_path(path))
numbers = st.sets(st.integers(1, 30), max_size=12)


def file(path: str, content: str = "x") -> DatasetFile:
    return DatasetFile(
        path=path, size_bytes=len(content), digest=f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"
    )


folders = st.dictionaries(st.text("abc", min_size=1, max_size=2), st.sampled_from("xyz"), min_size=1, max_size=8)


def manifest(contents: dict[str, str]) -> DatasetManifest:
    return manifest_of(file(path, content) for path, content in contents.items())


@pytest.mark.parametrize(
    "path",
    [
        *("", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a/.", "a\\b", " a", "a ", "a/ b", "x" * 513),
        *("a\n", "a\x00b", "a\x7f", "a\u202eb", "a\u2028b", "e\u0301", "\ud800", "x" * 256, "é" * 128),
    ],
)
def test_odd_paths_are_refused(path: str) -> None:
    assert problem_of_path(path)
    with pytest.raises(InvalidInput):
        check_files((DatasetFile.model_construct(path=path, size_bytes=0, digest=file("a").digest),))


@pytest.mark.parametrize("path", ["a", "a/b/c.parquet", ".hidden", "a b", "é", "数据/训练.csv", "a..b", "x" * 255])
def test_usual_paths_are_accepted(path: str) -> None:
    assert problem_of_path(path) == ""


@given(valid_paths)
def test_a_valid_path_stays_below_its_folder(path: str) -> None:
    assert not path.startswith("/")
    assert not {"", ".", ".."} & set(path.split("/"))


@given(st.permutations(["b/a", "a", "c", "b/b"]))
def test_the_order_of_files_does_not_matter(order: list[str]) -> None:
    assert content_hash(manifest_of(map(file, order))) == content_hash(manifest_of(map(file, sorted(order))))


@pytest.mark.parametrize("contents", [[], ["a", "a"], ["a", "a/b"], ["a/b", "a", "a.c"]])
def test_a_manifest_has_files_each_once_and_none_is_a_folder_too(contents: list[str]) -> None:
    with pytest.raises(InvalidInput):
        manifest_of(map(file, contents))


def test_files_in_another_order_are_no_manifest() -> None:
    with pytest.raises(InvalidInput, match="not in order"):
        check_files((file("b"), file("a")))


@given(folders, folders)
def test_a_difference_leads_from_one_version_to_the_other(before: dict[str, str], after: dict[str, str]) -> None:
    older, newer = manifest(before), manifest(after)
    found = difference(older, newer)
    rebuilt = {f.path: f for f in older.files} | {f.path: f for f in (*found.added, *found.changed)}
    for gone in found.removed:
        del rebuilt[gone.path]
    assert manifest_of(rebuilt.values()) == newer
    assert bool(found) == (older != newer)
    assert not {f.path for f in found.added} & {f.path for f in (*found.changed, *found.removed)}


@given(names, st.none() | st.integers(1, 10**9 - 1) | names)
def test_a_reference_is_read_as_it_is_written(name: str, version: int | str | None) -> None:
    found = reference(name if version is None else f"{name}@{version}")
    assert found == reference(str(found))
    assert found.dataset == name
    assert found.version == ("latest" if version is None else version)


@pytest.mark.parametrize(
    "text", ["", "A", "a@", "a@0", "a@01", "a@-1", "a@B", "a@1b", "@1", "a@1@2", "a/b", "a@" + "9" * 10]
)
def test_odd_references_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        reference(text)


@given(numbers, st.dictionaries(names, st.integers(1, 30), max_size=4), st.integers(1, 40) | names)
def test_a_reference_means_an_existing_version_or_is_refused(
    existing: set[int], labels: dict[str, int], version: int | str
) -> None:
    wanted = reference(f"a@{version}")
    try:
        found = resolved(wanted, labels, existing)
    except InvalidInput:
        if version == "latest":
            assert not existing
        else:
            assert (version if isinstance(version, int) else labels.get(version)) not in existing
        return
    assert found in existing
    assert found == (
        max(existing) if version == "latest" else labels.get(version) if isinstance(version, str) else version
    )


@given(numbers, st.integers(1, 12), numbers)
def test_retention_keeps_the_newest_and_what_is_used(existing: set[int], keep: int, used: set[int]) -> None:
    gone = expired(existing, keep, used)
    left = existing - set(gone)
    assert gone == sorted(gone)
    assert set(gone) <= existing
    assert not set(gone) & used
    assert set(sorted(existing)[-keep:]) <= left
    assert left <= set(sorted(existing)[-keep:]) | used
    assert expired(left, keep, used) == []


@given(st.sets(st.integers(0, 50)))
def test_ranges_cover_each_index_once(indexes: set[int]) -> None:
    found = ranges(sorted(indexes))
    assert [first + n for first, count in found for n in range(count)] == sorted(indexes)
    assert all(a + n < b for (a, n), (b, _) in itertools.pairwise(found))


def test_the_size_counts_every_file() -> None:
    assert size_of(manifest({"a": "xx", "b": "xx", "c": ""}).files) == 4
