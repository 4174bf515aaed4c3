"""One parameter of a handler: reads its value from a query, a path or the parts of a form."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pydantic import ValidationError
from pydantic.errors import PydanticUserError

from kaon.errors import ConfigError
from kaon.sdk import hints
from kaon.sdk.codec import Codec, codec_of
from kaon.sdk.problems import invalid_input, problem
from kaon.types.media import File

ParameterPlace: TypeAlias = Literal["path", "query", "body"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a handler, as callers see it."""

    name: str
    hint: Any
    where: ParameterPlace
    required: bool
    default: Any
    codec: Codec
    row: Codec | None = None
    """Reads one item when the parameter is a list."""

    def read(self, texts: list[str]) -> Any:
        """The value of `texts`. Raises ValidationError or InvalidInput."""
        if self.row is not None:
            return self.codec.validate_python([_from_text(self.row, text) for text in texts])
        if len(texts) > 1:
            raise invalid_input([problem(f"{self.where}.{self.name}", "is given more than once")])
        return _from_text(self.codec, texts[0])

    @property
    def may_be_empty(self) -> bool:
        """Whether a form may send it empty: a list of files, or a file that may be None."""
        return self.required and (hints.listed(self.hint) is not None or hints.may_be_none(self.hint))

    def read_parts(self, parts: list[str | File]) -> Any:
        """The value of the parts of a form. Raises ValidationError or InvalidInput."""
        row = hints.listed(self.hint)
        texts = [part for part in parts if isinstance(part, str)]
        if texts and len(texts) == len(parts) and (self.row is not None or hints.is_scalar(self.hint)):
            return self.read(texts)
        if len(texts) == len(parts) == 1:
            return self.codec.validate_json(texts[0])
        if len(parts) > 1 and row is None:
            raise invalid_input([problem(f"form.{self.name}", "is given more than once")])
        if not parts:
            return self.codec.validate_python(None if row is None else [])
        wants_files = hints.is_file(self.hint) or hints.is_file(row)
        values = [part.content if isinstance(part, File) and not wants_files else part for part in parts]
        return self.codec.validate_python(values[0] if row is None else values)


def compile_parameter(owner: str, p: inspect.Parameter, hint: Any, where: ParameterPlace) -> Parameter:
    """A parameter from its hint. Raises ConfigError for an unsupported kind or type."""
    if p.kind not in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
        raise ConfigError(
            f"`{owner}` takes `{p}`, which has no name for callers.",
            hint="Give each parameter a name; decorators keep names with functools.wraps.",
        )
    row = hints.listed(hint)
    if where != "body" and not hints.is_scalar(hint) and not (where == "query" and row and hints.is_scalar(row)):
        raise ConfigError(
            f"Parameter `{p.name}` of `{owner}` is {hints.spelled(hint)}, which a {where} cannot hold.",
            hint="Use scalars or lists of scalars, or method='POST'.",
        )
    return Parameter(
        name=p.name,
        hint=hint,
        where=where,
        required=p.default is p.empty,
        default=None if p.default is p.empty else p.default,
        codec=compile_codec(owner, p.name, hint),
        row=compile_codec(owner, p.name, row) if row is not None and hints.is_scalar(row) else None,
    )


def compile_codec(owner: str, name: str, hint: Any) -> Codec:
    """The codec of a hint; `name` is the parameter's, or `return`. Raises ConfigError."""
    try:
        return codec_of(hint, reads=name != "return")
    except (PydanticUserError, TypeError, ValueError) as error:
        what = "The answer" if name == "return" else f"Parameter `{name}`"
        spelled = hints.spelled(hint)
        raise ConfigError(
            f"{what} of `{owner}` is {spelled}, which cannot be sent as JSON.",
            hint=f"Use the type kaon.{spelled}."
            if spelled in ("Request", "Response")
            else "Use pydantic models, dataclasses, TypedDict, containers, numpy arrays, bytes or kaon.File.",
        ) from error


def _from_text(codec: Codec, text: str) -> Any:
    try:
        text.encode()  # raises for half of a surrogate pair
        return codec.validate_strings(text)
    except UnicodeEncodeError:
        raise invalid_input([problem("text", "is not valid Unicode")]) from None
    except ValidationError:
        try:  # Literal[1, 2] is readable only as JSON
            return codec.validate_json(text)
        except ValueError:
            pass
        raise
