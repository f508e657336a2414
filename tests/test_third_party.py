"""Plugins from elsewhere: one that is installed, used and removed, and several that are wrong and harm nobody."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from importlib.metadata import distributions
from pathlib import Path

import numpy as np
import pytest

import xmr_core as xmr
from xmr_core.registry import Registry

SOURCE = Path(__file__).parent / "third_party" / "xmr-nearby"
RESIDUAL = Path(__file__).parent / "third_party" / "xmr-residual"

USE = """
import sys
import xmr_core as xmr
from xmr_core.testing import clustered

vectors = clustered("l2", n=200)
with xmr.open(sys.argv[1]) as db:
    db.add_embeddings(vectors.values, "mine", recipe="pivots(pivots=4)", ids=range(200))
with xmr.open(sys.argv[1]) as db:
    print(*db.search(vector=vectors.values[17], k=3).ids[0])
"""


IN_SQL = """
import sys
import xmr_core as xmr
from xmr_core.testing import clustered

vectors = clustered("l2", n=200)
with xmr.open(sys.argv[1]) as db:
    db.add_embeddings(vectors.values, "mine", recipe="residual(stages=3)", ids=range(200))
    print(*db.search(vector=vectors.values[17], k=5).ids[0])
    print(*(row[0] for row in db.sql("FROM xmr.topk_mine($1, 5)", [vectors.values[17].tolist()]).fetchall()))
    print(*db.store.db.columns("code_mine_v1"))
"""


SEARCH = """
import sys
import xmr_core as xmr

with xmr.open(sys.argv[1]) as db:
    try:
        db.search(vector=[0.0] * 32)
    except xmr.XmrError as error:
        print(error)
"""


MOVE = """
import sys
import xmr_core as xmr
from xmr_core.testing.store_samples import fill, seen

urls = [f"sqlite:///{sys.argv[1]}/{name}.db" for name in "ab"]
urls.insert(1, f"duckdb:///{sys.argv[1]}/between.duckdb")
with xmr.open(urls[0]) as first:
    before = seen(fill(first.store))
    first.export(f"{sys.argv[1]}/first")
for number, url in enumerate(urls[1:]):
    with xmr.open(url) as db:
        db.restore(f"{sys.argv[1]}/{['first', 'second'][number]}")
        print(seen(db.store) == before)
        db.export(f"{sys.argv[1]}/{['second', 'third'][number]}")
"""


class Environment:
    """A Python of its own that sees what this one sees, and what pip installs into it."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=os.name != "nt")
        self.python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
        self.folder = folder
        packages = Path(self("import sysconfig; print(sysconfig.get_path('purelib'))").strip())
        seen = [str(Path(entry).resolve()) for entry in sys.path if entry and Path(entry).is_dir()]
        (packages / "seen.pth").write_text("\n".join(seen))

    def __call__(self, code: str, *arguments: str) -> str:
        return self.run("-c", code, *arguments)

    def run(self, *arguments: str) -> str:
        return _run([str(self.python), *arguments], self.folder)

    def pip(self, *arguments: str) -> None:
        _run([sys.executable, "-m", "pip", "--python", str(self.python), *arguments], self.folder)

    def indexers(self) -> list[str]:
        return self("from xmr_core.registry import default; print(*default().names('indexer'))").split()


def _run(command: list[str], folder: Path) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_"))}
    clean["PIP_CONFIG_FILE"] = os.devnull  # nobody's settings for pip
    done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment_with(source: Path, folder: Path) -> Environment:
    """An environment with a distribution, installed by pip from its source, offline."""
    copied = shutil.copytree(source, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    environment = Environment(folder / "environment")
    environment.pip(
        "install", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", str(copied)
    )
    return environment


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the plugin of the page for authors."""
    return environment_with(SOURCE, tmp_path_factory.mktemp("third_party"))


def test_codes_of_a_strangers_layout_are_searched_in_sql(tmp_path: Path) -> None:
    environment = environment_with(RESIDUAL, tmp_path)
    python, in_sql, columns = environment(IN_SQL, str(tmp_path / "mine.duckdb")).splitlines()
    assert in_sql == python
    assert columns == "item_id modality c0 c1 c2 square"
    output = environment.run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(RESIDUAL / "test_xmr_residual.py"))
    assert "indexer residual(stages=4): " in output and " checks ran" in output


def test_an_installed_plugin_is_found_and_used(installed: Environment, tmp_path: Path) -> None:
    assert "pivots" in installed.indexers()
    assert installed(USE, str(tmp_path / "mine.duckdb")).split()[0] == "17"


def test_its_one_line_contract_test_passes(installed: Environment) -> None:
    output = installed.run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(SOURCE / "test_xmr_nearby.py"))
    assert "indexer pivots: " in output and " checks ran" in output


def test_a_removed_plugin_is_gone_and_its_codes_say_so(installed: Environment, tmp_path: Path) -> None:
    installed(USE, str(tmp_path / "mine.duckdb"))
    installed.pip("uninstall", "--yes", "xmr-nearby")
    assert "pivots" not in installed.indexers()
    assert "no indexer 'pivots' installed" in installed(SEARCH, str(tmp_path / "mine.duckdb"))


@pytest.mark.parametrize("file", ["pyproject.toml", "xmr_nearby.py", "test_xmr_nearby.py"])
def test_the_page_for_authors_shows_this_plugin_as_it_is(file: str) -> None:
    page = Path(__file__).parents[1] / "docs" / "writing-a-plugin.md"
    assert (SOURCE / file).read_text(encoding="utf-8") in page.read_text(encoding="utf-8")


# a store from elsewhere

SQLITE = SOURCE.parent / "xmr-sqlite"
TOY = Path(__file__).parent / "toy"  # a plugin that any process on whose path it is finds
COMMAND = "import sys; sys.path.insert(0, sys.argv.pop(1)); from xmr_core.cli import main; main()"


@pytest.fixture(scope="module")
def with_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the store over sqlite3."""
    return environment_with(SQLITE, tmp_path_factory.mktemp("sqlite"))


def test_a_store_keeps_its_contract_in_one_line(with_sqlite: Environment) -> None:
    output = with_sqlite.run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(SQLITE / "test_xmr_sqlite.py"))
    assert "store sqlite: " in output.replace("'", "") and " checks ran" in output and "skipped" not in output


def test_a_store_works_from_the_command_line(with_sqlite: Environment, pictures: list[Path], tmp_path: Path) -> None:
    table = tmp_path / "captions.csv"
    table.write_text("image,text\n" + "".join(f"{image.name},a {image.stem} thing\n" for image in pictures))
    url = f"sqlite:///{tmp_path}/captions.db"

    def xmr_command(*arguments: str) -> str:
        return with_sqlite(COMMAND, str(TOY), *arguments)

    xmr_command("add", url, str(table))
    xmr_command("fit", url, "toy >> flat", "--name", "near")
    found = json.loads(xmr_command("search", url, "a green thing", "-k", "2", "--json"))
    assert "green" in found["hits"][0]["key"]
    facts = json.loads(xmr_command("info", url, "--json"))
    assert facts["file"] == url and facts["items"] == {"image": 4, "text": 4} and facts["bytes"] > 0
    assert [space["space"] for space in facts["spaces"]] == ["near"]
    assert "all is well" in xmr_command("doctor", url)
    assert "a red thing" in xmr_command("sql", url, "SELECT text FROM xmr.catalog WHERE item_id < ?", "9")


def test_a_library_moves_from_one_store_to_another(with_sqlite: Environment, tmp_path: Path) -> None:
    assert with_sqlite(MOVE, str(tmp_path)).split() == ["True", "True"]


def test_a_store_is_short_and_no_copy_of_another() -> None:
    assert len((SQLITE / "xmr_sqlite" / "__init__.py").read_text().splitlines()) <= 350


# wrong ones: distributions written by hand, read by a registry of their own

GOOD = """
import xmr_core as xmr

class Halve(xmr.Fuser):
    name = "halve"
    needs_fit = False
    metric = "l2"
    def fuse(self, features):
        return xmr.Embeddings(features.vectors / 2, "l2")

@xmr.hookimpl
def xmr_fusers():
    return [Halve]
"""


Install = Callable[..., Registry]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Write a distribution of one module; gives the registry of all that were written."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(module: str, source: str, group: str = "xmr") -> Registry:
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module.replace('_', '-')}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{module} = {module}\n")
        found = distributions(path=[str(tmp_path)])
        return Registry([point for distribution in found for point in distribution.entry_points])

    yield write
    for file in tmp_path.glob("*.py"):
        sys.modules.pop(file.stem, None)


def problem(registry: Registry) -> str:
    """The one problem, and the proof that the good plugin beside it works."""
    assert registry.find("fuser", "halve").name == "halve"
    (only,) = registry.problems
    return str(only)


def test_a_good_plugin_has_no_problems(install: Install) -> None:
    registry = install("plugin_good", GOOD)
    assert registry.problems == []
    assert [entry.distribution for entry in registry.entries()] == ["plugin-good"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import no_such_module", "No module named 'no_such_module'"),
        ("raise SystemExit('bye')", "bye"),
        (GOOD.replace("xmr_fusers", "xmr_fuser"), "unknown hook 'xmr_fuser'; did you mean 'xmr_fusers'?"),
        ("XMR_API = 99" + GOOD, "made for plugin API 99, this is API 1"),
        (GOOD.replace("[Halve]", "[Halve, int]").replace('"halve"', '"third"'), "is no subclass of xmr_core.Fuser"),
        (GOOD.replace('"halve"', '"to halve"'), "name must be an identifier, got 'to halve'"),
        (GOOD.replace("def fuse", "def melt").replace('"halve"', '"third"'), "fuser 'third' lacks fuse"),
    ],
)
def test_a_wrong_plugin_is_reported_and_harms_nobody(install: Install, source: str, reason: str) -> None:
    install("plugin_good", GOOD)
    reported = problem(install("plugin_wrong", source))
    assert reason in reported
    assert "plugin-wrong" in reported


def test_a_plugin_of_a_later_api_is_not_even_imported(install: Install) -> None:
    install("plugin_good", GOOD)
    reported = problem(install("plugin_later", "raise AssertionError('imported')", group="xmr.v2"))
    assert "made for plugin API 2" in reported


def test_a_name_that_two_plugins_claim_is_nobodys(install: Install) -> None:
    install("plugin_good", GOOD)
    registry = install("plugin_twin", GOOD)
    (only,) = registry.problems
    assert "plugin-good" in str(only) and "plugin-twin" in str(only)
    with pytest.raises(xmr.DuplicateComponentError, match=r"plugin-good .* and plugin-twin"):
        registry.find("fuser", "halve")


def test_a_name_that_is_nearly_right_is_suggested(install: Install) -> None:
    registry = install("plugin_good", GOOD)
    with pytest.raises(xmr.UnknownComponentError, match="did you mean 'halve'"):
        registry.find("fuser", "halv")


# classes of a running process


def halve(name: str = "halve", **attributes: object) -> type[xmr.Fuser]:
    """A new class of a good fuser, as a cell of a notebook makes it."""

    def fuse(self: xmr.Fuser, features: xmr.Features) -> xmr.Embeddings:
        return xmr.Embeddings(features.vectors / 2, "l2")

    return type("Halve", (xmr.Fuser,), {"name": name, "needs_fit": False, "metric": "l2", "fuse": fuse, **attributes})


@pytest.fixture
def process() -> Registry:
    """A registry of what is installed, to which the test adds."""
    return Registry()


def test_a_class_that_is_added_is_found_until_it_is_removed(process: Registry) -> None:
    added = process.add(halve())
    assert process.find("fuser", "halve") is added
    assert [entry.distribution for entry in process.entries() if entry.name == "halve"] == ["this process"]
    process.remove(added)
    assert not process.has("fuser", "halve")
    with pytest.raises(xmr.UnknownComponentError, match="was not added"):
        process.remove(added)


def test_a_cell_that_is_run_again_takes_the_place_of_its_first_class(process: Registry) -> None:
    process.add(halve())
    again = process.add(halve())
    assert process.find("fuser", "halve") is again


def test_a_name_that_a_plugin_has_cannot_be_added(process: Registry) -> None:
    with pytest.raises(xmr.DuplicateComponentError, match=r"xmr .plugin 'sign'. has fuser 'sign' already"):
        process.add(halve("sign"))
    assert process.find("fuser", "sign").__name__ == "Sign"


@pytest.mark.parametrize(
    ("component", "reason"),
    [
        (int, "is no subclass of a role"),
        (halve("to halve"), "Halve.name must be an identifier, got 'to halve'"),
        (type("Bare", (xmr.Fuser,), {"name": "bare"}), "fuser 'bare' lacks fuse, metric"),
    ],
)
def test_what_an_entry_point_may_not_bring_cannot_be_added(
    process: Registry, component: type[object], reason: str
) -> None:
    with pytest.raises(xmr.PluginError, match=reason):
        process.add(component)


VECTORS = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)


def test_an_unregistered_class_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    from xmr_flat import Flat
    from xmr_precomputed import Precomputed

    trained = []
    fitted = halve("unheard_of", needs_fit=True, fit=lambda self, pairs: trained.append(self) or self)
    with xmr.open(tmp_path / "library.duckdb", progress=False) as db:
        db.add(xmr.Items(xmr.IMAGE, VECTORS))
        for attempt in (
            lambda: db.fit(Precomputed(dim=8) >> fitted() >> Flat()),
            lambda: db.compare([Precomputed(dim=8) >> fitted() >> Flat()]),
            lambda: db.add_embeddings(VECTORS, "mine", fitted() >> Flat()),
        ):
            with pytest.raises(xmr.UnknownComponentError, match=r"no fuser 'unheard_of' .* call registry.add\(Halve\)"):
                attempt()
        assert trained == []
        assert db.spaces() == []
    imposter = halve("sign")
    with pytest.raises(xmr.PluginError, match=r"but fuser .sign. is xmr_sign\.Sign of xmr, so what is stored"):
        Registry().require(imposter())


def test_an_added_class_is_fitted_published_and_loaded(tmp_path: Path) -> None:
    from xmr_flat import Flat
    from xmr_precomputed import Precomputed

    added = xmr.registry.add(halve("added"))
    try:
        with xmr.open(tmp_path / "library.duckdb", progress=False) as db:
            db.add(xmr.Items(xmr.IMAGE, VECTORS))
            db.fit(Precomputed(dim=8) >> added() >> Flat(), name="mine")
        with xmr.open(tmp_path / "library.duckdb", progress=False) as db:
            assert db.search(item=2, k=1, space="mine", modality="image").ids.tolist() == [[2]]
    finally:
        xmr.registry.remove(added)
    with (
        xmr.open(tmp_path / "library.duckdb", progress=False) as db,
        pytest.raises(xmr.UnknownComponentError, match="no fuser 'added' installed"),
    ):
        db.space("mine")
