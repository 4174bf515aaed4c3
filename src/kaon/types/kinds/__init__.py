"""All kinds: each module of this package declares one, as its `KIND`."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from kaon.errors import InvalidInput, did_you_mean
from kaon.types.kind import Kind


def _declared() -> dict[str, Kind]:
    found = (import_module(f"{__name__}.{module.name}").KIND for module in iter_modules(__path__))
    return {kind.name: kind for kind in found}


KINDS: dict[str, Kind] = _declared()
"""Name -> kind."""


def kind_named(word: str) -> Kind:
    """The kind with rights that has `word` as its singular, plural or short name. Raises `InvalidInput`."""
    open_ = [kind for kind in KINDS.values() if kind.rights]
    for kind in open_:
        if word.lower() in (kind.name, kind.plural, *kind.short):
            return kind
    names = ", ".join(kind.name for kind in open_)
    names_ = [name for kind in open_ for name in (kind.name, kind.plural)]
    raise InvalidInput(f"Kind '{word[:80]}' does not exist.", hint=f"{did_you_mean(word, names_)}Kinds: {names}.")
