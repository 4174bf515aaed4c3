"""Finds the folders of a project's own modules that go on sys.path, from the modules' imports.

Python's own rule is that the folder of a script comes first on the path, or, of a module in a package, the folder
above the package. Projects rely on more: a package without `__init__.py` that is run by `python -m`, a `src` folder
that is installed for development, scripts beside packages. So the *root* is the nearest folder, from Python's own
upwards, from which all imports that are in the project, of the module and of its own modules, are found. It is decided
from the source text: nothing is imported.

The path is decided from the root and the module's file alone, so it is the same when a class is read, under
`kaon dev`, and in a replica.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

_MODULES_MAX = 2_000
_TEXT_BYTES_MAX = 4 * 2**20
_SOURCE = "src"
_PLATFORM = "kaon"
_KAON = Path(__file__).resolve().parents[1]  # Kaon's own sources hide nothing


def search_path(root: Path, file: Path) -> tuple[Path, ...]:
    """The folders that go on sys.path for the module `file` below `root`, in order.

    The root; then its `src` and the module's own folder, each if the module (or one of its own that it imports) imports
    something that is only there. Neither is added when it is a package.
    """
    found: tuple[Path, ...] = (root,)
    for folder in (root / _SOURCE, file.parent):
        if folder in found or not folder.is_dir() or (folder / "__init__.py").exists():
            continue
        if any(_is_here(folder, name) for name in _missing(found, file)):
            found = (*found, folder)
    return found


def find_root(file: Path, top: Path) -> Path:
    """The root for a module, at most `top`."""
    nearest = _nearest(file)
    missing = _missing(_usual(nearest), file)
    if not missing or top not in nearest.parents:
        return nearest
    above = [folder for folder in nearest.parents if folder == top or top in folder.parents]
    for folder in above:
        # Modules in the module's own folder are found in any case: see `search_path`.
        if all(_on_path(_usual(folder), name) for name in missing if _anywhere(above, name)):
            return folder if any(_anywhere(above, name) for name in missing) else nearest
    return nearest


def own_modules(folders: tuple[Path, ...]) -> frozenset[str]:
    """Names that can be imported from these folders: modules and packages, with and without `__init__.py`."""
    return frozenset(
        item.name.removesuffix(".py")
        for folder in folders
        for item in folder.iterdir()
        if item.name.removesuffix(".py").isidentifier() and _is_here(folder, item.name.removesuffix(".py"))
    )


def hiding(folders: tuple[Path, ...]) -> Iterator[Path]:
    """Files and packages in these folders that hide Kaon, or a module of Python's standard library.

    A folder without `__init__.py` hides nothing: a module of that name anywhere on the path comes before it.
    """
    for folder in folders:
        for item in sorted(folder.iterdir()):
            is_module = item.suffix == ".py" and item.is_file()
            if item.resolve() == _KAON:
                continue
            if (is_module or (item / "__init__.py").is_file()) and _is_standard(item.name.removesuffix(".py")):
                yield item


def _is_standard(name: str) -> bool:
    return name == _PLATFORM or (name in sys.stdlib_module_names and not name.startswith("_"))


def _nearest(file: Path) -> Path:
    """The first folder from which Python can import the module: above its package and its relative imports."""
    levels = max((level for level, _ in _imported(file)), default=0)
    return next(above for above in file.parents[levels:] if not (above / "__init__.py").exists())


def _usual(root: Path) -> tuple[Path, ...]:
    source = root / _SOURCE
    return (root, source) if source.is_dir() and not (source / "__init__.py").exists() else (root,)


def _is_here(folder: Path, name: str) -> bool:
    """Whether `import name` finds something in the folder: a module, or a folder with Python files in it."""
    if (folder / f"{name}.py").is_file():
        return True
    package = folder / name
    return package.is_dir() and ((package / "__init__.py").is_file() or _has_python(package, depth=3))


def _has_python(folder: Path, depth: int) -> bool:
    """Whether there is a Python file in the folder or not far below it."""
    items = list(folder.iterdir())
    if any(item.suffix == ".py" for item in items):
        return True
    return depth > 1 and any(
        _has_python(item, depth - 1) for item in items if item.is_dir() and item.name.isidentifier()
    )


def _on_path(folders: tuple[Path, ...], name: str) -> bool:
    return any(_is_here(folder, name) for folder in folders)


def _anywhere(folders: list[Path], name: str) -> bool:
    return any(_on_path(_usual(folder), name) for folder in folders)


def _missing(folders: tuple[Path, ...], file: Path) -> set[str]:
    """First names of imports that are not in `folders`, of `file` and of its own modules that it imports."""
    missing: set[str] = set()
    visited: set[Path] = set()
    waiting = [file]
    while waiting and len(visited) < _MODULES_MAX:
        module = waiting.pop()
        if module in visited:
            continue
        visited.add(module)
        for level, name in _imported(module):
            first = name.partition(".")[0]
            if level:
                waiting += _files_of((module.parents[level - 1],), name)
            elif first in sys.stdlib_module_names or first == _PLATFORM:
                continue
            elif _on_path(folders, first):
                waiting += _files_of(folders, name)
            else:
                missing.add(first)
                waiting += _files_of((file.parent,), name)
    return missing


def _imported(module: Path) -> Iterator[tuple[int, str]]:
    """(number of leading dots, dotted name) of a module's imports; none for a file that is not Python."""
    if not module.is_file() or module.stat().st_size > _TEXT_BYTES_MAX:
        return
    try:
        tree = ast.parse(module.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level < len(module.parents):
            yield from ((node.level, ".".join(filter(None, [node.module, alias.name]))) for alias in node.names)


def _files_of(folders: tuple[Path, ...], name: str) -> Iterator[Path]:
    """The files that an import of the dotted name runs, as far as they are in `folders`."""
    parts = name.split(".")
    for folder in folders:
        for count in range(1, len(parts) + 1):
            place = folder.joinpath(*parts[:count])
            yield from (path for path in (place.with_name(f"{place.name}.py"), place / "__init__.py") if path.is_file())
