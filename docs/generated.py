"""The reference pages that are derived from the code: types, settings, errors, command line.

Sphinx loads this as an extension; it writes `reference/*.md` before the sources are read. Nothing that
is written here is committed.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer.main
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from sphinx.application import Sphinx

import kaon.errors
import kaon.types
from kaon.settings import Settings
from kaon.types.deployment import Scaling
from kaon.types.kinds import KINDS
from kaon.types.objective import Objective
from kaon.types.service import Batch, EndpointSpec, ServiceSpec
from kaon.words.__main__ import sources
from kaon.words.catalogue import grouped
from kaon.words.extract import extract

HERE = Path(__file__).parent / "reference"


def cell(text: object) -> str:
    """Text that is safe in a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def type_name(annotation: Any) -> str:
    """An annotation as people write it."""
    name = getattr(annotation, "__name__", None) if isinstance(annotation, type) else str(annotation)
    return cell(name or annotation).replace("kaon.types.", "").replace("typing.", "")


def field_table(model: type[BaseModel]) -> list[str]:
    """The fields of a model, one row each."""
    rows = ["| field | type | default | |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        default = "required"
        if field.default is not PydanticUndefined:
            default = f"`{cell(field.default)}`"
        elif field.default_factory is not None:
            default = "empty"
        rows.append(f"| `{name}` | `{type_name(field.annotation)}` | {default} | {cell(field.description or '')} |")
    return rows


def types_page() -> str:
    """Every type of `kaon.types`, module by module."""
    lines = [
        "# Types",
        "",
        "What the API, the store and the files speak. All are frozen and refuse unknown fields.",
        "",
    ]
    for module_name in sorted(m.name for m in pkgutil.iter_modules(kaon.types.__path__)):
        module = importlib.import_module(f"kaon.types.{module_name}")
        models = [
            value
            for value in vars(module).values()
            if isinstance(value, type)
            and issubclass(value, BaseModel)
            and value.__module__ == module.__name__
            and value.model_fields
        ]
        if not models:
            continue
        lines += [f"## {module_name}", "", (module.__doc__ or "").strip().splitlines()[0], ""]
        for model in models:
            lines += [f"### {model.__name__}", "", (model.__doc__ or "").strip(), "", *field_table(model), ""]
    return "\n".join(lines)


def settings_page() -> str:
    """The platform's settings."""
    lines = ["# Settings of the platform", "", "Read once, from the environment.", ""]
    lines += ["| variable | default | |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "~/.kaon" if name == "home" else field.default
        lines.append(f"| `KAON_{name.upper()}` | `{cell(default)}` | {cell(field.description or '')} |")
    return "\n".join(lines)


def errors_page() -> str:
    """Every error with its code, HTTP status and exit code of the command line."""
    lines = [
        "# Errors",
        "",
        "Every error is problem+json (RFC 9457) with a code, a detail, a hint and a request id.",
        "",
    ]
    lines += ["| code | HTTP | exit code | |", "|---|--:|--:|---|"]
    for error in sorted(_errors(kaon.errors.KaonError), key=lambda e: e.status):
        doc = (error.__doc__ or "").strip().splitlines()[0]
        lines.append(f"| `{error.code}` | {error.status} | {error.exit_code} | {cell(doc)} |")
    return "\n".join(lines)


def _errors(root: type[kaon.errors.KaonError]) -> list[type[kaon.errors.KaonError]]:
    return [root, *(e for sub in root.__subclasses__() for e in _errors(sub))]


def metrics_page() -> str:
    """Every metric: of deployments, and of a replica."""
    from kaon.api.meters import METRICS as OF_DEPLOYMENTS
    from kaon.api.meters import PLATFORM_METRICS as OF_THE_PLATFORM
    from kaon.runtime.metrics import METRICS as OF_A_REPLICA

    return "\n".join(
        [
            "# Metrics",
            "",
            "All are in Prometheus' text format.",
            "",
            "## Of deployments",
            "",
            "`GET /api/v1/metrics` with a key that may read: one scrape sees every deployment that the key sees, in",
            "all clouds. Revision 0 stands for calls that found no replica at the edge.",
            "",
            *_metric_table(OF_DEPLOYMENTS),
            "",
            "## Of the platform",
            "",
            "On the same page, for keys that stand for every workspace.",
            "",
            *_metric_table(OF_THE_PLATFORM),
            "",
            "## Of a replica",
            "",
            "`GET /metrics` on a replica's control socket; what the service itself registers with prometheus-client is",
            "there too.",
            "",
            *_metric_table(OF_A_REPLICA),
        ]
    )


def _metric_table(metrics: Mapping[str, Any]) -> list[str]:
    rows = ["| name | type | labels | |", "|---|---|---|---|"]
    for name, metric in metrics.items():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{name}` | {metric.type} | {labels} | {cell(metric.help)} |")
    return rows


def knobs_page() -> str:
    """Every knob: what it is, its range, and how a move of it is tried."""
    from kaon.laws.tune import board, scaling
    from kaon.types.tuning import Reach, TuningStatus

    batch = Batch(max_size=32, max_wait_s=1)
    endpoint = EndpointSpec(name="x", method="POST", path="/x", concurrency=2, batch=batch)
    service = ServiceSpec(name="x", entry="x:X", endpoints=(endpoint,))
    found = board.knobs(service, Scaling(min=1, max=2), Objective(), TuningStatus())
    assert {knob.name for knob in found} == scaling.WHAT.keys(), "every knob has its text, and every text its knob"
    lines = [
        "# Knobs",
        "",
        "What of a service may be moved while it serves; `kaon tune NAME` has them with their values. None of them is",
        "a number of replicas. A replica's own end where the class says: it is never asked for more than that. A",
        "service has those that can matter to it: the first where a handler takes batches, the pool's where Kaon's own",
        "law chooses between `scaling.min` and `scaling.max`.",
        "",
        "| knob | from | to | moved by | tried on | |",
        "|---|--:|--:|---|---|---|",
    ]
    for knob in found:
        own = knob.reach is Reach.REPLICA
        high = _CLASS_SAYS.get(knob.name) or f"{knob.high:g}"
        tried = "some replicas" if own else "all, by turns"
        by = "the tuner, and you" if knob.tuned else "you"
        lines.append(f"| `{knob.name}` | {knob.low:g} | {high} | {by} | {tried} | {cell(knob.what)} |")
    return "\n".join([*lines, "", "How to move them: [Let a service tune itself](../how-to/tune-a-service.md)."])


_CLASS_SAYS = {
    "max_batch": "`Batch(max_size=)`",
    "max_wait_s": "`Batch(max_wait_s=)`",
    "concurrency": "`concurrency=`, else 16; 1 with batches",
}
"""Where a replica's own knobs end."""


def commands_page() -> str:
    """Every command with its help, arguments and options."""
    from kaon.cli import app

    root = typer.main.get_command(app)
    lines = ["# Command line", "", "Data goes to standard output, everything else to standard error.", ""]
    _command(root, ["kaon"], lines)
    return "\n".join(lines)


def _command(command: Any, path: list[str], lines: list[str]) -> None:
    if getattr(command, "hidden", False):
        return
    children = getattr(command, "commands", None)
    if len(path) > 1:
        lines += [f"{'#' * min(len(path), 4)} {' '.join(path)}", ""]
    help_text = (command.help or "").replace("\b", "").strip()
    lines += ["```text", help_text, "```", ""] if "$ kaon" in help_text else [help_text, ""]
    if children is None:
        lines += _parameters(command)
        return
    for name in sorted(children):
        _command(children[name], [*path, name], lines)


def _parameters(command: Any) -> list[str]:
    rows = []
    for parameter in command.params:
        if getattr(parameter, "hidden", False) or parameter.name == "help":
            continue
        names = ", ".join(parameter.opts) if parameter.param_type_name == "option" else parameter.name.upper()
        rows.append(f"| `{cell(names)}` | {cell(getattr(parameter, 'help', '') or '')} |")
    return ["| | |", "|---|---|", *rows, ""] if rows else []


def kinds_page() -> str:
    """Every kind: its names, verbs, rights, columns and filters, as it is declared."""
    lines = [
        "# Kinds",
        "",
        "What there is to list, show, watch and change: `kaon get KIND`, `kaon describe KIND NAME`, and the routes of",
        "the API. Any of a kind's names does. `--filter NAME=VALUE` leaves only those that have that value, and every",
        "kind whose resources have a name takes `--filter prefix=TEXT`. Each list can be watched: `--watch`.",
        "",
    ]
    for kind in sorted(KINDS.values(), key=lambda kind: kind.name):
        if not kind.rights:
            continue
        names = ", ".join(f"`{name}`" for name in (kind.name, kind.plural, *kind.short))
        columns = ", ".join(f"{c.title} (`-o wide`)" if c.wide else c.title for c in kind.columns)
        lines += [f"## {kind.name}", "", kind.summary, "", "| | |", "|---|---|", f"| names | {names} |"]
        lines += [f"| routes | `/api/v1{kind.path}` |", f"| belongs to | a {kind.scope} |"]
        lines += [f"| rights | {', '.join(f'{verb}: {right}' for verb, right in kind.rights.items())} |"]
        lines += [f"| columns | {cell(columns)} |"]
        lines += [f"| filter `{wanted.name}` | {cell(wanted.help)} |" for wanted in kind.filters]
        lines += [""]
    return "\n".join(lines)


def packages_page() -> str:
    """Every package from top to bottom: what it holds, and what it imports. Included by the page on the structure."""
    root = Path(kaon.errors.__file__).parent
    layers = re.search(
        r"(?s)layers =\n(.*?)\nexhaustive", (root.parents[1] / ".importlinter").read_text(encoding="utf-8")
    )
    assert layers is not None, "the contract on layers"
    names = [name for name in re.findall(r"\w+", layers.group(1)) if name not in _PLUMBING]
    lines = ["| package | lines | holds | imports |", "|---|--:|---|---|"]
    for name in names:
        path = root / name
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
        sources = [file.read_text(encoding="utf-8") for file in files]
        imported = {n for source in sources for n in re.findall(r"(?m)^ *(?:from|import) kaon\.(\w+)", source)} - {name}
        doc = (ast.get_docstring(ast.parse(sources[0])) or "").splitlines()[0]
        below = ", ".join(f"`{other}`" for other in names if other in imported)
        lines.append(f"| `{name}` | {sum(s.count(chr(10)) for s in sources):,} | {cell(doc)} | {below} |")
    return "\n".join(lines)


_PLUMBING = {"errors", "clock", "log", "settings", "context", "version", "proc", "processes", "login_throttle"}
"""Single modules at the bottom that almost everything may import."""


def texts_page() -> str:
    """Every text that a user may read, in groups, as `make words` finds them in the source."""
    lines = [
        "# Texts",
        "",
        "Every text that Kaon shows: errors and their hints, the command line, reasons of decisions, events and",
        "conditions. `{name}` stands for a value. They are the ids of the catalogue `src/kaon/words/kaon.pot`, by",
        "which texts are translated: [decision 13](../explanation/decisions/0013-one-catalogue-of-texts.md).",
        "",
    ]
    for title, messages in grouped(extract(sources())).items():
        lines += [f"## {title}", "", "````text", *(message.id.strip("\n") for message in messages), "````", ""]
    return "\n".join(lines)


PAGES = {
    "kinds": kinds_page,
    "types": types_page,
    "settings": settings_page,
    "errors": errors_page,
    "metrics": metrics_page,
    "knobs": knobs_page,
    "commands": commands_page,
    "texts": texts_page,
    "packages": packages_page,
}


def write(_: Sphinx | None = None) -> None:
    """Write the pages that differ from what is there."""
    HERE.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        path, text = HERE / f"{name}.md", page() + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx's entry point."""
    app.connect("builder-inited", write)
    return {"version": "1", "parallel_read_safe": True}
