"""Datasets, versions and differences as text. Pure, but for the time in ages."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from kaon.api.views import DatasetDifference, DatasetVersionView, DatasetView
from kaon.cli.shared.output import Format, document
from kaon.cli.shared.text import plain, since, size, table
from kaon.types.dataset import DatasetManifest

_FILES_SHOWN = 20


def described(
    view: DatasetView | DatasetVersionView,
    parts: Sequence[DatasetVersionView] | DatasetManifest,
    form: Format,
    *,
    all_files: bool = False,
) -> str:
    """A dataset with its versions, or a version with its files."""
    if form is Format.NAME:
        return view.name
    if form is not Format.TABLE:
        below = parts.model_dump(mode="json") if isinstance(parts, BaseModel) else {"versions": _plain(parts)}
        return document({**view.model_dump(mode="json"), **below}, form)
    if isinstance(view, DatasetView):
        assert not isinstance(parts, DatasetManifest)
        return _dataset(view, parts)
    assert isinstance(parts, DatasetManifest)
    return _version(view, parts, all_files=all_files)


def _plain(views: Sequence[DatasetVersionView]) -> list[dict[str, Any]]:
    return [view.model_dump(mode="json") for view in views]


def _dataset(view: DatasetView, versions: Sequence[DatasetVersionView]) -> str:
    now = time.time()
    labels = ", ".join(f"{label} = {number}" for label, number in sorted(view.labels.items())) or "none"
    head = [f"{view.name}", f"labels    {labels}", f"keep      the newest {view.spec.keep} versions"]
    if view.spec.description:
        head.insert(1, plain(view.spec.description))
    rows = [
        (
            str(v.spec.number),
            f"{v.spec.files:,}",
            size(v.spec.size_bytes),
            ", ".join(v.labels) or "-",
            _maker(v),
            since(v.created_at, now),
            ", ".join(v.used_by[:3]) or "-",
        )
        for v in reversed(versions)
    ]
    titles = ("version", "files", "size", "labels", "made by", "age", "used by")
    return "\n".join(head) + ("\n\n" + table(titles, rows) if rows else "")


def _version(view: DatasetVersionView, manifest: DatasetManifest, *, all_files: bool) -> str:
    spec = view.spec
    lines = [
        view.name,
        f"files     {spec.files:,}, {size(spec.size_bytes)}",
        f"labels    {', '.join(view.labels) or 'none'}",
        f"made by   {_maker(view)}, {since(view.created_at, time.time())} ago",
        f"made of   {', '.join(spec.origin.inputs) or '-'}",
        f"led to    {', '.join(view.made) or '-'}",
        f"used by   {', '.join(view.used_by) or 'nothing'}",
        f"manifest  {spec.manifest}",
    ]
    shown = manifest.files if all_files else manifest.files[:_FILES_SHOWN]
    rows = [(plain(file.path), size(file.size_bytes), file.digest[7:19]) for file in shown]
    lines += ["", table(("file", "size", "digest"), rows)]
    if left := len(manifest.files) - len(shown):
        lines.append(f"and {left:,} more: --all lists them")
    return "\n".join(lines)


def _maker(view: DatasetVersionView) -> str:
    origin = view.spec.origin
    return f"job {origin.job}, attempt {origin.attempt}" if origin.job else f"key {view.spec.created_by}"


def difference_page(older: str, newer: str, found: DatasetDifference, form: Format) -> str:
    """What changed from one version to another."""
    if form in (Format.JSON, Format.YAML):
        return document(found.model_dump(mode="json"), form)
    kinds = (("+", found.added), ("-", found.removed), ("~", found.changed))
    lines = [f"{sign} {plain(file.path)}" for sign, files in kinds for file in files]
    if form is Format.NAME:
        return "\n".join(lines)
    counts = f"{found.added_count:,} added, {found.removed_count:,} removed, {found.changed_count:,} changed"
    listed = sum(len(files) for _, files in kinds)
    left = found.added_count + found.removed_count + found.changed_count - listed
    more = [f"and {left:,} more"] if left else []
    return "\n".join([f"{older} -> {newer}: {counts}", *lines, *more])
