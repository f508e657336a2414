"""What is public: `xmr_core`, `xmr_core.plugin`, `xmr_core.sql`, documented to the last name; plugins use no more."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest
from test_imports import PLUGINS, imports, top

import xmr_core as xmr
from xmr_core import plugin, sql

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "api.md").read_text()


def documented(module: str) -> list[str]:
    """The names in the first column of the tables of a module's section."""
    (section,) = re.findall(rf"^## `{re.escape(module)}`\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    cells = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]


@pytest.mark.parametrize("module", [xmr, plugin, sql], ids=lambda module: module.__name__)
def test_every_public_name_is_documented_once(module: ModuleType) -> None:
    assert sorted(documented(module.__name__)) == sorted(module.__all__)


@pytest.mark.parametrize("module", [xmr, plugin], ids=lambda module: module.__name__)
def test_a_name_means_the_same_in_both(module: ModuleType) -> None:
    both = set(xmr.__all__) & set(plugin.__all__)
    assert [name for name in both if getattr(xmr, name) is not getattr(plugin, name)] == []


@pytest.mark.parametrize("name", PLUGINS)
def test_plugins_import_what_is_public_and_nothing_else_of_the_core(name: str) -> None:
    public = {f"xmr_core.{known}" for known in xmr.__all__} | {f"xmr_core.plugin.{known}" for known in plugin.__all__}
    public |= {"xmr_core", "xmr_core.plugin"} | {f"xmr_core.sql.{known}" for known in sql.__all__}
    used = [(where, what) for where, what in imports(ROOT / "plugins" / name) if top(what) == "xmr_core"]
    assert [f"{where} imports {what}" for where, what in used if what not in public] == []
