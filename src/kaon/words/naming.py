"""From the syntax tree of a literal or f-string to a template whose placeholders have names. Pure."""

from __future__ import annotations

import ast
import re
from collections import Counter

from kaon.words.template import escaped

_ESCAPED_PLACEHOLDER = re.compile(r"\{(\{[A-Za-z_]\w*\})\}")
_OF_TEXT = {"lower", "upper", "capitalize", "title", "strip", "rstrip", "lstrip", "split", "partition", "rpartition",
    "removeprefix", "removesuffix", "replace", "encode", "decode", "get"}  # fmt: skip
"""Methods whose result is still called by the name of what they are called on."""


def template(node: ast.Constant | ast.JoinedStr) -> tuple[str, dict[str, str]]:
    """A literal or f-string as a template's id, and the formats of its placeholders."""
    if isinstance(node, ast.Constant):  # `{name}` in a plain literal is filled in by `format`
        return _ESCAPED_PLACEHOLDER.sub(r"\1", escaped(str(node.value))), {}
    values = [part for part in node.values if isinstance(part, ast.FormattedValue)]
    names = iter(_distinct([value.value for value in values]))
    pieces, formats = [], dict[str, str]()
    for part in node.values:
        if isinstance(part, ast.FormattedValue):
            name = next(names)
            pieces.append("{" + name + "}")
            if form := _format(part):
                formats[name] = form
        else:
            pieces.append(escaped(str(part.value)) if isinstance(part, ast.Constant) else "")
    return "".join(pieces), formats


def _format(value: ast.FormattedValue) -> str:
    """`!r`, `:.1f`: how the value is written."""
    parts = value.format_spec.values if isinstance(value.format_spec, ast.JoinedStr) else []
    spec = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)
    return (f"!{chr(value.conversion)}" if value.conversion > 0 else "") + (f":{spec}" if spec else "")


def _distinct(values: list[ast.expr]) -> list[str]:
    """A name for each value: short where that is enough, with its owner's or a number where it is not."""
    short = [_name(value) for value in values]
    codes = [ast.dump(value) for value in values]
    shared = Counter(dict(zip(codes, short, strict=True)).values())
    names: dict[str, str] = {}
    for value, name, code in zip(values, short, codes, strict=True):
        if code not in names:
            plain = _name(value, whole=True) if shared[name] > 1 else name
            choices = (plain, *(f"{plain}_{n}" for n in range(2, 2 + len(values))))
            names[code] = next(choice for choice in choices if choice not in names.values())
    return [names[code] for code in codes]


def _name(value: ast.expr, whole: bool = False) -> str:
    match value:
        case ast.Name(id=name):
            return name.strip("_").lower() or "value"
        case ast.Attribute(value=owner, attr=attr):
            short = attr.strip("_").lower()
            if short == "value":
                return _name(owner, whole)
            return f"{_name(owner)}_{short}" if whole and not isinstance(owner, ast.Call) else short
        case ast.Call(func=func, args=args):
            called = last_name(func)
            if called == "len" and args:
                return f"{_name(args[0])}_count"
            if args and not isinstance(args[0], ast.Constant):
                return _name(args[0], whole)
            return (
                _name(func.value, whole)
                if isinstance(func, ast.Attribute) and called in _OF_TEXT
                else called.strip("_")
            )
        case ast.Subscript(slice=ast.Constant(value=str(key))) if key.isidentifier():
            return key.lower()
        case ast.Subscript(value=owner):
            return _name(owner, whole)
        case ast.BinOp(left=left, right=right):
            return _name(right if isinstance(left, ast.Constant) else left, whole)
        case ast.UnaryOp(operand=operand) | ast.Await(value=operand) | ast.Starred(value=operand):
            return _name(operand, whole)
        case ast.BoolOp(values=operands):
            return _name(operands[0], whole)
        case ast.IfExp(body=ast.Constant(value="" | "s"), orelse=ast.Constant(value="" | "s")):
            return "plural"
        case ast.IfExp(test=test, body=body, orelse=orelse):
            names = [_name(part, whole) for part in (body, orelse, test)]
            return next((name for name in names if name != "value"), "value")
        case ast.Compare(left=left):
            return _name(left, whole)
        case ast.GeneratorExp(elt=elt) | ast.ListComp(elt=elt) | ast.SetComp(elt=elt):
            return _name(elt, whole)
        case ast.JoinedStr(values=parts):
            inner = [part.value for part in parts if isinstance(part, ast.FormattedValue)]
            return _name(inner[0], whole) if inner else "value"
        case _:
            return "value"


def last_name(func: ast.expr) -> str:
    """The name of a function or class, without what it is an attribute of."""
    match func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(value=value):
            return last_name(value)
        case ast.Call(func=inner):
            return last_name(inner)
        case _:
            return ""
