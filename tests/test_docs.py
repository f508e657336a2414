"""The documentation is run: every block of a page, in order, in one namespace and one empty folder. And it is whole."""

from __future__ import annotations

import contextlib
import dataclasses
import doctest
import io
import os
import re
import subprocess
import sys
import tomllib
import types
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from xmr_core import datasets, errors, hookspecs
from xmr_core.images import decode_image
from xmr_core.registry import Entry, Registry

ROOT = Path(__file__).parents[1]
PAGES = [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if page.exists()]
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
NOTE = re.compile(r"<!--\s*(?P<word>skip|run|given)(?::\s*(?P<reason>[^>]*?))?\s*-->\s*\Z")
SEARCH = re.compile(
    r"\.search\((?=[a-z])|^\$ xmr search |\bxmr\.(topk|within|like|batch|nearest|search)\w*\(", re.MULTILINE
)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)#\s]+)(?:#[^)\s]*)?\)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and the note in the HTML comment before it: `skip: reason`, `run`, or `given: photos`.

    `shows` is the text block that follows it: what it prints.
    """

    language: str
    code: str
    line: int
    note: str
    shows: str | None = None


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: str) -> Iterator[Block]:
    """The blocks of a page. A text block that directly follows another belongs to it, as what that one prints."""
    found = list(FENCE.finditer(page))
    for block, after in zip(found, [*found[1:], None], strict=True):
        if block["language"] == "text":
            continue
        note = NOTE.search(page[: block.start()])
        line = page[: block.start("code")].count("\n")
        follows = after is not None and after["language"] == "text" and not page[block.end() : after.start()].strip()
        shows = code(after) if after is not None and follows else None
        yield Block(block["language"], code(block), line, note["word"] if note else "", shows)


def photos() -> None:
    """What a reader of the README has: captions.csv with images beside it, and query.jpg. Emoji of animals."""
    emoji = datasets.openmoji(size=96)
    names = [text.split(",")[0] for text in emoji.texts.data]
    kinds = emoji.images.metadata["category"]
    rows = [row for row, name in enumerate(names) if kinds[row] == "Animals & Nature" and name.isalpha()][:36]
    lines = ["image,caption,owner,split"]
    for turn, row in enumerate(rows):
        decode_image(emoji.images.data[row]).save(f"{names[row]}.png")
        lines.append(f"{names[row]}.png,a {names[row]},{('Ann', 'Bob')[turn % 2]},{('train', 'test')[turn > 30]}")
    Path("captions.csv").write_text("\n".join(lines) + "\n")
    decode_image(emoji.images.data[names.index("cat")]).save("query.jpg")


def code(block: re.Match[str]) -> str:
    return re.sub(rf"^{block['indent']}", "", block["code"], flags=re.MULTILINE)


def run(block: Block, namespace: dict[str, object], page: Path) -> None:
    """Run a block, and compare what it prints with what the page shows, up to blanks; `...` stands for anything."""
    if block.note == "skip":
        return
    if block.note == "given":
        photos()
    printed = output(block, namespace, page)
    if block.shows is not None:
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        same = doctest.OutputChecker().check_output(block.shows, printed, flags)
        assert same, f"{page.name}:{block.line}: the page shows\n{block.shows}\nbut this was printed\n{printed}"


def output(block: Block, namespace: dict[str, object], page: Path) -> str:
    """What a block prints: Python in the namespace, SQL on its variable `con`, a console where the page asks for it."""
    if block.language == "python":
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * block.line + block.code, str(page), "exec"), namespace)
        return printed.getvalue()
    if block.language == "sql":
        assert "con" in namespace, f"{page.name}:{block.line}: SQL is run on a variable `con`, which no block has made"
        done = namespace["con"].execute(block.code)  # type: ignore[attr-defined]
        rows = [[name for name, *_ in done.description], *done.fetchall()]
        return "\n".join("  ".join(map(str, row)) for row in rows) + "\n"
    commands = (
        block.code.replace("\\\n", " ").splitlines() if block.language == "console" and block.note == "run" else []
    )
    return "".join(shell(command[2:].partition("  #")[0]) for command in commands if command.startswith("$ "))


def shell(command: str) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    roots = os.pathsep.join(entry for entry in sys.path if entry)
    environment = {**os.environ, "PATH": path, "PYTHONPATH": roots, "COLUMNS": "240"}
    done = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # dataclasses look their module up
    for block in blocks(read(page)):
        run(block, vars(module), page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    targets = {found["target"] for found in LINK.finditer(read(page))}
    files = {target for target in targets if not re.match(r"\w+:", target)}
    assert {target for target in files if not (page.parent / target).exists()} == set()


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "sql.md"], ids=lambda page: str(page.relative_to(ROOT))
)
def test_every_search_of_a_page_shows_or_asserts_what_it_finds(page: Path) -> None:
    searches = [block for block in blocks(read(page)) if SEARCH.search(block.code) and block.note != "skip"]
    shown = [block for block in searches if block.language != "console" or block.note == "run"]
    assert [block.line for block in shown if block.shows is None and "assert " not in block.code] == []


def test_a_skipped_block_says_why() -> None:
    notes = [found for page in PAGES for found in re.finditer(r"<!--\s*skip(:[^>]*)?-->", read(page))]
    assert [found[0] for found in notes if not (found[1] or "").strip(": ")] == []


def test_blocks_are_found_with_their_notes() -> None:
    page = (
        "a\n```python\nx = 1\n```\n<!-- skip: slow -->\n```sql\nSELECT 1\n```\n<!-- run -->\n\n```console\n$ ls\n```\n"
    )
    assert list(blocks(page)) == [
        Block("python", "x = 1\n", 2, ""),
        Block("sql", "SELECT 1\n", 6, "skip"),
        Block("console", "$ ls\n", 11, "run"),
    ]


def test_a_text_block_is_what_the_block_before_it_prints() -> None:
    page = "```python\nprint(1, 0.25)\n```\n\n```text\n1  0.2...\n```\n\nwords\n```text\nnot run\n```\n"
    (block,) = blocks(page)
    assert block.shows == "1  0.2...\n"
    run(block, {}, Path("page.md"))
    with pytest.raises(AssertionError, match=r"the page shows\s+2"):
        run(dataclasses.replace(block, shows="2\n"), {}, Path("page.md"))


def test_a_block_that_fails_names_its_page_and_line(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError) as failure:
        run(Block("python", "x = 1\n1 / 0\n", 40, ""), {}, Path("page.md"))
    assert failure.traceback[-1].lineno + 1 == 42


# the documentation is whole


def text() -> str:
    return "\n".join(read(page) for page in PAGES)


def test_every_hook_is_documented() -> None:
    hooks = [name for name in vars(hookspecs) if name.startswith("xmr_")]
    page = read(ROOT / "docs" / "writing-a-plugin.md")
    assert [hook for hook in hooks if f"`{hook}" not in page] == []


def test_every_error_is_documented() -> None:
    assert [name for name in errors.__all__ if f"`{name}`" not in text()] == []


def test_every_table_is_documented() -> None:
    from xmr_storage.schema import TABLES

    assert [name for name in TABLES if f"`xmr.{name}`" not in text()] == []


def points() -> list[EntryPoint]:
    """The entry points that pyproject.toml declares, whether this checkout is installed or not."""
    declared = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]["entry-points"]["xmr"]
    return [EntryPoint(name, module, "xmr") for name, module in declared.items()]


def entries() -> list[Entry]:
    return [entry for entry in Registry(points()).entries() if entry.role != "store"]


def test_every_declared_plugin_loads() -> None:
    assert Registry(points()).problems == []


@pytest.mark.parametrize("plugin", sorted({entry.plugin for entry in entries()}))
def test_every_plugin_has_a_page_that_names_its_components_and_options(plugin: str) -> None:
    page = ROOT / "docs" / "plugins" / f"{plugin}.md"
    assert page.exists(), f"plugin {plugin!r} has no page docs/plugins/{plugin}.md"
    components = [entry.component for entry in entries() if entry.plugin == plugin]
    options = {field.name for component in components for field in dataclasses.fields(component.Config)}
    names = {component.name for component in components} | options
    assert [name for name in sorted(names) if f"`{name}`" not in read(page)] == []
