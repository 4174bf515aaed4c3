"""Finds every user-visible text in the source, by its syntax trees. Pure: sources in, texts out.

No call site is marked. A literal or f-string is a text for users when it reads like one (two words next to each other)
or stands where only such texts stand (a hint, a help text, the cause of an error, a column's title), and does not go
where no user reads: a log record of the platform, a pattern, a comparison. An f-string becomes a template whose
placeholders are named after its expressions: `f"No service {plain(view.name)}."` is `No service {name}.`
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from kaon.words.naming import last_name, template

_PROSE = re.compile(r"[A-Za-z}][\w'’-]*[,;:.!?)'\"`*]* +[('\"`{\[<*-]*[A-Za-z{]")
_WORD = re.compile(r"[a-z]{2}")
_PLACEHOLDER = re.compile(r"\{\w+\}")
_COMMAND = re.compile(r"(?:kaon|GET|PUT|POST|DELETE|ulimit|KAON_\w+=\S+) [^#]*")
_PROTOCOL = re.compile(
    r"\r\n|^\w+/[\w.+-]+; |, application/json|boundary=|form-data; |filename=|^Bearer \{"
    r"|^usage: python|^-c |^(connection|content-length): |^gzip, deflate$|^id: |^: |^event: \{|^\{name\}_\w+\{"
    r"|(-src|-uri|-action|-ancestors) '?|^Current thread |^Fatal Python error"
)
"""Headers, media types, policies and lines of other programs: they look like prose and are none."""
_CAMEL = re.compile(r"[A-Z][A-Za-z]+|[a-z_]+(?:[-._/][a-z_]+)+")

_ERRORS = {
    "ValueError",
    "TypeError",
    "AttributeError",
    "RuntimeError",
    "ImportError",
    "SystemExit",
    "PydanticCustomError",
}
_HELP = {"help", "epilog", "short_help"}
_SINKS = {"message", "detail", "summary", "description"}
"""Keywords whose value is a text for users even when it is a single word."""
_REFERENCE = {"Field", "Query", "Path", "Header", "Body", "Filter", "Kind", "MetricDescription", "ReplicaMetric"}
"""Calls whose texts describe fields, parameters and metrics."""
_TITLES = {"Column", "TableShape"}
_LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
_UNREAD_CALLS = {
    "AssertionError", "NotImplementedError", "TypeVar", "getLogger", "compile", "match", "fullmatch", "search", "sub",
    "finditer", "findall", "split", "rsplit", "partition", "rpartition", "replace", "strip", "lstrip", "rstrip",
    "removeprefix", "removesuffix", "startswith", "endswith", "index", "find", "encode", "strftime", "strptime",
    "execute", "executemany", "text", "engine", "environ", "getenv", "quote", "set_cookie", "command",
}  # fmt: skip
"""Calls whose texts are patterns, statements, keys and parts of protocols."""
_UNREAD_KEYWORDS = {"pattern", "name", "metavar", "begin", "prog", "alias", "regex", "key", "media_type", "entry"}
_UNREAD_MODULES = (
    "kaon/words/", "kaon/sdk/samples.py", "kaon/store/statements.py", "kaon/store/schema.py", "kaon/edge/resources/",
    "kaon/edge/http2.py", "kaon/edge/protobuf.py", "kaon/store/migrations/", "kaon/sim/picture.py",
    "kaon/testing/", "kaon/drivers/fake.py",
)  # fmt: skip


@dataclass
class Text:
    """A text of the source: its template, its kind (`error`, `hint`, `help`, `reference`, `text`), and its modules."""

    id: str
    kind: str
    places: list[str] = field(default_factory=list)
    formats: dict[str, str] = field(default_factory=dict)


def extract(sources: Mapping[str, str]) -> list[Text]:
    """All user-visible texts of modules given by their paths (`kaon/api/app.py`), in the order of the source."""
    trees = {path: ast.parse(source) for path, source in sorted(sources.items())}
    errors = _error_classes(trees.values())
    found: dict[str, Text] = {}
    for path, tree in trees.items():
        if path.startswith(_UNREAD_MODULES):
            continue
        for kind, node in _texts(tree, errors):
            text, formats = template(node)
            if not _is_for_users(kind, text):
                continue
            message = found.setdefault(_skeleton(text), Text(text, kind, formats=formats))
            if path not in message.places:
                message.places.append(path)
    return list(found.values())


def _skeleton(text: str) -> str:
    """Texts that differ only in the names of their placeholders are one message: no sentence can tell them apart."""
    return _PLACEHOLDER.sub("{}", text)


def _error_classes(trees: Iterable[ast.Module]) -> set[str]:
    """`KaonError` and all that inherit it, by name."""
    bases = {
        node.name: {last_name(base) for base in node.bases}
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    found, before = {"KaonError"}, 0
    while len(found) > before:
        before = len(found)
        found |= {name for name, parents in bases.items() if parents & found}
    return found | _ERRORS


def _texts(tree: ast.Module, errors: set[str]) -> Iterator[tuple[str, ast.Constant | ast.JoinedStr]]:
    """Each literal and f-string that users may read, with its kind."""

    def visit(node: ast.AST, kind: str | None) -> Iterator[tuple[str, ast.Constant | ast.JoinedStr]]:
        match node:
            case ast.Expr(value=ast.Constant(value=str())) | ast.Assert() | ast.Compare() | ast.match_case():
                if isinstance(node, ast.match_case):
                    for statement in node.body:
                        yield from visit(statement, kind)
            case ast.JoinedStr():
                if kind:
                    yield kind, node
                for part in node.values:
                    if isinstance(part, ast.FormattedValue):
                        yield from visit(part.value, kind and "text")
            case ast.Constant(value=str()):
                if kind:
                    yield kind, node
            case ast.FunctionDef(decorator_list=decorators) if any(map(_declares_verb, decorators)):
                for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
                    yield "help", ast.Constant(" ".join(paragraph.split()))
                for child in ast.iter_child_nodes(node):
                    yield from visit(child, "text")
            case ast.Call():
                yield from visit_call(node, kind)
            case ast.IfExp():
                yield from visit(node.body, kind)
                yield from visit(node.orelse, kind)
            case ast.Subscript():
                yield from visit(node.value, kind)
                if last_name(node.value) == "Annotated":
                    yield from visit(node.slice, kind)
            case ast.AnnAssign():
                yield from visit(node.annotation, "text")
                if node.value:
                    yield from visit(node.value, "text")
            case _:
                below = "text" if isinstance(node, ast.stmt) else kind
                for child in ast.iter_child_nodes(node):
                    yield from visit(child, below)

    def visit_call(call: ast.Call, kind: str | None) -> Iterator[tuple[str, ast.Constant | ast.JoinedStr]]:
        name = last_name(call.func)
        yield from visit(call.func, kind)
        inside = _kind_of_call(call, name, errors, kind)
        for argument in call.args:
            yield from visit(argument, inside)
        for keyword in call.keywords:
            below = inside
            if keyword.arg in _UNREAD_KEYWORDS:
                below = None
            elif keyword.arg in _HELP:
                below = "help"
            elif keyword.arg == "hint" and inside:
                below = "hint"
            elif keyword.arg in _SINKS and inside not in (None, "reference", "help"):
                below = "sink"
            elif keyword.arg == "errors":
                below = "text"
            yield from visit(keyword.value, below)

    yield from visit(tree, "text")


def _declares_verb(decorator: ast.expr) -> bool:
    """Whether a function is a command of the command line, whose help is its docstring."""
    return isinstance(decorator, ast.Call) and last_name(decorator.func) == "verb"


def _kind_of_call(call: ast.Call, name: str, errors: set[str], outer: str | None) -> str | None:
    if name in _UNREAD_CALLS or (name in _LOG_METHODS and "log" in ast.unparse(call.func).lower()):
        return None
    if name in errors:
        return "error"
    if name in _REFERENCE:
        return "reference"
    if name in ("Option", "Argument", "Typer", "group", "verb", "add_argument"):
        return "help"
    return "title" if name in _TITLES else "text" if outer in (None, "title") else outer


def _is_for_users(kind: str, text: str) -> bool:
    """Whether a text in a place of this kind is prose, rather than a name or a piece of a protocol."""
    if _COMMAND.fullmatch(text) or _PROTOCOL.search(text) or not _WORD.search(_PLACEHOLDER.sub("", text)):
        return False
    if kind in ("error", "hint", "sink", "title"):
        return not _CAMEL.fullmatch(text) or kind == "title"
    return bool(_PROSE.search(text))
