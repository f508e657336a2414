"""Who may import whom: the core no plugin and no storage, a plugin nothing but the core and what it declares."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLUGINS = sorted(path.name for path in (ROOT / "plugins").iterdir() if (path / "__init__.py").exists())
ENTRY_POINTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["xmr"].values()
SHARED = set(PLUGINS) - set(ENTRY_POINTS)  # packages without hooks: plugins may import them
STORAGES = sorted(path.name for path in (ROOT / "storage").iterdir() if (path / "__init__.py").exists())
DATABASES = {"duckdb", "sqlalchemy", "duckdb_sqlalchemy"}
HEAVY = {"torch", "faiss", "scipy", "hnswlib", "sklearn", "onnxruntime", *DATABASES}
MODULES = {"faiss_cpu": "faiss", "pillow": "PIL", "scikit_learn": "sklearn"}


def imports(folder: Path) -> Iterator[tuple[str, str]]:
    """(where, what) of every import in a folder, also those inside functions: `xmr_core.types.Items`."""
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_bytes(), str(file))):
            where = f"{file.relative_to(folder.parent)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import):
                yield from ((where, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                package = ".".join(file.relative_to(folder.parent).parts[: -node.level]) if node.level else ""
                module = ".".join(filter(None, (package, node.module)))
                yield from ((where, f"{module}.{alias.name}") for alias in node.names)


def top(module: str) -> str:
    return module.partition(".")[0]


def outside(folder: Path, allowed: set[str]) -> list[str]:
    """The imports that are neither the standard library, nor allowed."""
    allowed = allowed | set(sys.stdlib_module_names)
    return [f"{where} imports {what}" for where, what in imports(folder) if top(what) not in allowed]


def declared() -> set[str]:
    """The modules of the distributions that pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [asked for name, asks in project["optional-dependencies"].items() if name != "dev" for asked in asks]
    names = (re.split(r"[\[<>=~! ;]", asked)[0].replace("-", "_") for asked in project["dependencies"] + extras)
    return {MODULES.get(name, name) for name in names} - {"xmr"}


def in_new_process(code: str) -> list[str]:
    """The words that a new Python prints, with this one's import path."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_walk_sees_imports_wherever_they_stand(tmp_path: Path) -> None:
    (tmp_path / "plugin").mkdir()
    (tmp_path / "plugin" / "code.py").write_text("from . import a\ndef f():\n    import torch.nn as nn\n")
    assert list(imports(tmp_path / "plugin")) == [("plugin/code.py:1", "plugin.a"), ("plugin/code.py:3", "torch.nn")]


def test_the_core_imports_no_plugin_no_storage_and_nothing_heavy() -> None:
    light = declared() - HEAVY
    suites = {"pytest"}  # xmr_core.testing, which nothing else imports
    typing = {"_typeshed", "typing_extensions"}  # the type checker has them, and nobody else imports them
    assert outside(ROOT / "xmr_core", {"xmr_core", *light, *suites, *typing}) == []


def test_only_the_contract_suites_import_pytest() -> None:
    users = {where for where, what in imports(ROOT / "xmr_core") if top(what) == "pytest"}
    suites = {where for where, what in imports(ROOT / "xmr_core") if what.startswith("xmr_core.testing")}
    assert {where for where in users | suites if not where.startswith("xmr_core/testing/")} == set()


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_imports_the_core_and_what_is_declared(plugin: str) -> None:
    assert outside(ROOT / "plugins" / plugin, {"xmr_core", plugin, *SHARED, *(declared() - DATABASES)}) == []


@pytest.mark.parametrize("package", sorted(SHARED))
def test_a_package_that_plugins_share_declares_no_hook(package: str) -> None:
    hooks = [where for where, what in imports(ROOT / "plugins" / package) if what.endswith("hookimpl")]
    sources = [file.read_text(encoding="utf-8") for file in (ROOT / "plugins" / package).rglob("*.py")]
    assert hooks == [] and not any("hookimpl" in source for source in sources)


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_uses_public_names_alone(plugin: str) -> None:
    used = [(where, what) for where, what in imports(ROOT / "plugins" / plugin) if top(what) == "xmr_core"]
    assert [f"{where} imports {what}" for where, what in used if "._" in what] == []


@pytest.mark.parametrize("storage", STORAGES)
def test_a_storage_imports_the_core_and_what_is_declared(storage: str) -> None:
    assert outside(ROOT / "storage" / storage, {"xmr_core", storage, *(declared() - {"torch", "faiss"})}) == []


def test_importing_the_core_loads_nothing_heavy_and_no_plugin() -> None:
    unwanted = HEAVY | {"pytest", *PLUGINS, *STORAGES}
    assert in_new_process(f"import sys, xmr_core; print(*sorted({unwanted} & set(sys.modules)))") == []


@pytest.mark.parametrize("package", PLUGINS + STORAGES)
def test_importing_a_plugin_loads_nothing_heavy(package: str) -> None:
    assert in_new_process(f"import sys, {package}; print(*sorted({HEAVY} & set(sys.modules)))") == []


def test_listing_the_plugins_loads_nothing_heavy() -> None:
    code = f"import sys; from xmr_core.registry import default; default().entries(); print(*{HEAVY} & set(sys.modules))"
    assert in_new_process(code) == []
