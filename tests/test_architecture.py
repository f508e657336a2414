"""The shape of the house: no import circles, short files and functions, few modules in the hall."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {"xmr_core": ROOT, "plugins": ROOT / "plugins", "storage": ROOT / "storage"}  # folder to import root
LARGEST_FILE, LONGEST_FUNCTION, FLAT_MODULES = 450, 60, 14


def modules() -> dict[str, Path]:
    """Every module in source by its dotted name."""
    found = {}
    for folder, root in SOURCES.items():
        for file in sorted((ROOT / folder).rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imported(tree: ast.AST, module: str, package: bool, known: set[str]) -> Iterator[str]:
    """The known modules that a module imports anywhere: at its top, in functions, and for the type checker alone.

    `from a import b` is an edge to `a.b` where that is a module, else to `a`; a package is not an importer of the
    modules in it merely because Python runs its `__init__` first.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".") if package else module.split(".")[:-1]
            base = base[: len(base) - node.level + 1] if node.level else []
            origin = ".".join([*base, *filter(None, [node.module])])
            for alias in node.names:
                name = f"{origin}.{alias.name}"
                if name in known or origin in known:
                    yield name if name in known else origin


def graph(files: Mapping[str, Path]) -> dict[str, set[str]]:
    """What each module imports, itself left out."""
    return {
        name: set(imported(ast.parse(file.read_bytes()), name, file.name == "__init__.py", set(files))) - {name}
        for name, file in files.items()
    }


def circles(edges: Mapping[str, set[str]]) -> list[set[str]]:
    """The strongly connected components of more than one module."""
    reached = {name: _reachable(name, edges) for name in edges}
    found: list[set[str]] = []
    for name in sorted(edges):
        together = {other for other in reached[name] if name in reached[other]}
        if together - {name} and together not in found:
            found.append(together)
    return found


def _reachable(start: str, edges: Mapping[str, set[str]]) -> set[str]:
    seen, waiting = set[str](), [start]
    while waiting:
        for target in edges[waiting.pop()] - seen:
            seen.add(target)
            waiting.append(target)
    return seen


def functions(file: Path) -> Iterator[tuple[str, int]]:
    """(name, lines) of every function in a file, decorators left out."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            yield node.name, node.end_lineno - node.lineno + 1


def test_circles_are_seen_wherever_the_import_stands(tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.py" for name in "abcd"}
    files["a"].write_text("import b\n")
    files["b"].write_text("def f():\n    from c import x\n")
    files["c"].write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a\n")
    files["d"].write_text("import a\n")
    assert circles(graph(files)) == [{"a", "b", "c"}]


def test_there_is_no_import_circle_not_even_a_lazy_or_typed_one() -> None:
    assert circles(graph(modules())) == []


def test_the_core_has_few_modules_beside_its_folders() -> None:
    flat = sorted(file.name for file in (ROOT / "xmr_core").glob("*.py") if file.name != "__init__.py")
    assert len(flat) <= FLAT_MODULES, flat


@pytest.mark.parametrize("folder", SOURCES)
def test_no_file_is_too_long_to_read(folder: str) -> None:
    sizes = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in (ROOT / folder).rglob("*.py")}
    assert {name: size for name, size in sizes.items() if size > LARGEST_FILE} == {}


@pytest.mark.parametrize("folder", SOURCES)
def test_no_function_is_too_long_to_read(folder: str) -> None:
    lengths = {
        f"{file.relative_to(ROOT)}: {name}": lines
        for file in (ROOT / folder).rglob("*.py")
        for name, lines in functions(file)
    }
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION} == {}
