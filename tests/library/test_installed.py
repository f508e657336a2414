"""Plugins that are gone, upgraded, downgraded or broken: the rest of the library goes on, and says what to install."""

from __future__ import annotations

import importlib
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import xmr_core as xmr
from xmr_core import registry
from xmr_core.cli import app
from xmr_core.components import Provider

SOURCE = '''
"""Counts letters: a plugin of which several releases are tried."""

from dataclasses import dataclass

import numpy as np

import xmr_core as xmr


@dataclass(frozen=True)
class TintConfig:
{fields}


class Tint(xmr.Encoder):
    name = "tint"
    Config = TintConfig
    version = {version}
    forms = {{"text": "vector"}}
    metric = "l2"

    def fit(self, pairs):
        return self.with_state({{"letters": np.array(["a", "e", "i", "o"])}})

    def encode(self, items):
        rows = [[text.count(letter) for letter in self.state["letters"]] for text in items.data]
        return xmr.Features.of_vectors(items.modality, {result})

    @classmethod
    def migrate(cls, options, state, version):
{migrate}


@xmr.hookimpl
def xmr_encoders():
    return [Tint]
'''
PLAIN = "        return super().migrate(options, state, version)"
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a release of xmr-tint, in the place of any other; without a version, uninstall it."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def put(
        release: str | None,
        fields: str = "gain: float = 1.0",
        version: int = 1,
        fails: str = "",
        migrate: str = PLAIN,
        result: str = "np.array(rows, np.float32).reshape(-1, 4)",
    ) -> None:
        shutil.rmtree(site)
        site.mkdir()
        if release is not None:
            lines = "\n".join(f"    {line}" for line in fields.split("; "))
            code = SOURCE.format(fields=lines, version=version, migrate=migrate, result=result)
            (site / "xmr_tint.py").write_text(fails + code)
            info = site / f"xmr_tint-{release}.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: xmr-tint\nVersion: {release}\n")
            (info / "entry_points.txt").write_text("[xmr]\ntint = xmr_tint\n")
        sys.modules.pop("xmr_tint", None)
        importlib.invalidate_caches()
        registry.default.cache_clear()

    yield put
    sys.modules.pop("xmr_tint", None)
    registry.default.cache_clear()


def texts(*lines: str) -> xmr.Items:
    return xmr.Items("text", lines, keys=lines)


def library(path: Path) -> xmr.Library:
    return xmr.open(path / "tinted.duckdb", progress=False)


@pytest.fixture
def fitted(install: Install, tmp_path: Path) -> None:
    """A library with a space of xmr-tint 1.2 and one of words, and the plugin as it was."""
    install("1.2")
    with library(tmp_path) as db:
        db.add(texts("a dog eats", "two cats", "an owl", "ice"))
        db.fit("tint(gain=2.0) >> flat", name="tinted")
        db.fit("bm25", name="words", where="true")


WAYS: dict[str, tuple[dict[str, object], str]] = {
    "gone": (
        {"release": None},
        r"space 'tinted' cannot be loaded: no encoder 'tint' installed; it was fitted with xmr-tint 1\.2: "
        r"pip install xmr-tint==1\.2",
    ),
    "broken": (
        {"release": "1.3", "fails": "raise ImportError('no libtint')\n"},
        r"no encoder 'tint' installed \(plugin 'tint' of xmr-tint: ImportError: no libtint\); it was fitted with "
        r"xmr-tint 1\.2: pip install xmr-tint==1\.2",
    ),
    "of a later state": (
        {"release": "2.0", "version": 2},
        r"tint: the state has version 1, installed is 2; fit again; it was fitted with xmr-tint 1\.2, "
        r"installed is xmr-tint 2\.0: pip install xmr-tint==1\.2",
    ),
    "without the option": (
        {"release": "2.0", "fields": "bias: float = 0.0"},
        r"tint: stored with gain, which the installed version does not know; .*pip install xmr-tint==1\.2",
    ),
    "with another rule": (
        {"release": "2.0", "fields": "gain: bool = True"},
        r"gain=2\.0: must be bool; it was fitted with xmr-tint 1\.2, installed is xmr-tint 2\.0: pip install",
    ),
    "failing to load": (
        {"release": "1.2.1", "migrate": "        return options['shade'], state"},
        r"encoder 'tint' fails: KeyError: 'shade'; it was fitted with xmr-tint 1\.2, installed is xmr-tint 1\.2\.1: "
        r"pip install xmr-tint==1\.2",
    ),
}


@pytest.fixture(params=WAYS)
def words(request: pytest.FixtureRequest, fitted: None, install: Install) -> str:
    """A plugin that is gone, or another than it was, and what is said of it."""
    change, said = WAYS[request.param]
    install(**change)
    return said


def test_a_space_remembers_who_brought_its_components(fitted: None, tmp_path: Path) -> None:
    with library(tmp_path) as db:
        found = db.store.providers("tinted", 1)
        assert found[0] == Provider("encoder", "tint", "xmr-tint", "1.2")
        assert (found[1].component, found[1].distribution) == ("flat", "xmr")


def test_an_encoder_named_in_an_option_is_remembered_too(fitted: None, tmp_path: Path) -> None:
    with library(tmp_path) as db:
        db.fit("each(image='precomputed(dim=4)', text='tint(gain=3.0)') >> flat", name="nested")
        assert Provider("encoder", "tint", "xmr-tint", "1.2") in db.store.providers("nested", 1)


def test_a_missing_encoder_named_in_an_option_says_what_to_install(
    fitted: None, install: Install, tmp_path: Path
) -> None:
    with library(tmp_path) as db:
        db.fit("each(image='precomputed(dim=4)', text='tint(gain=3.0)') >> flat", name="nested")
    install(None)
    with library(tmp_path) as db, pytest.raises(xmr.UnknownComponentError, match=r"pip install xmr-tint==1\.2"):
        db.search(text="a dog", space="nested", modality="text")


def test_other_spaces_go_on_and_one_warning_says_what_to_install(words: str, tmp_path: Path) -> None:
    with library(tmp_path) as db, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert db.spaces() == ["tinted", "words"]
        assert db.add(texts("a red fox")).new == 1
        assert db.refresh() == 0
        assert db.fit("bm25", name="more", where="true").record.version == 1
        assert db.search(text="owl", space="words", modality="text", exact=True)[0].key == "an owl"
        assert "tinted" in repr(db)
    (warning,) = told
    assert warning.category is xmr.SkippedSpaceWarning
    with pytest.raises(xmr.XmrError, match=words):
        raise xmr.XmrError(str(warning.message))


def test_searching_it_says_the_same(words: str, tmp_path: Path) -> None:
    with library(tmp_path) as db, pytest.raises((xmr.PluginError, xmr.StateVersionError), match=words):
        db.search(text="a dog", space="tinted", modality="text")


def test_its_codes_can_be_searched_in_sql(words: str, tmp_path: Path) -> None:
    with library(tmp_path) as db:
        rows = db.sql("SELECT item_id FROM xmr.topk_tinted([1, 1, 0, 1]::FLOAT[], 2)").fetchall()
        assert rows[0] == (0,)  # "a dog eats" has two a, one e, one o


def test_the_doctor_says_how_many_codes_are_missing_and_why(words: str, tmp_path: Path) -> None:
    with library(tmp_path) as db, warnings.catch_warnings():
        warnings.simplefilter("ignore", xmr.SkippedSpaceWarning)
        db.add(texts("a red fox", "an ape"))
        missing, reason = db.doctor()
    assert "2 items have no code in space 'tinted'" in missing
    with pytest.raises(xmr.XmrError, match=words):
        raise xmr.XmrError(reason)


def test_items_added_meanwhile_get_codes_once_it_is_back(words: str, install: Install, tmp_path: Path) -> None:
    with library(tmp_path) as db, pytest.warns(xmr.SkippedSpaceWarning):
        db.add(texts("oooo"))
    install("1.2")
    with library(tmp_path) as db:
        assert db.refresh() == 1
        assert db.search(text="ooo", space="tinted", modality="text", k=1)[0].key == "oooo"
        assert db.doctor() == []


def test_an_option_added_with_a_default_changes_nothing(fitted: None, install: Install, tmp_path: Path) -> None:
    with library(tmp_path) as db:
        before = db.space("tinted").record.fingerprint
    install("2.0", fields="gain: float = 1.0; bias: float = 0.0")
    with library(tmp_path) as db, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert db.space("tinted").pipeline.fingerprint() == before
        assert db.add(texts("a red fox")).new == 1
        assert db.search(text="a red fox", space="tinted", modality="text", k=1)[0].key == "a red fox"
        assert db.doctor() == []


def test_an_option_that_was_renamed_is_migrated(fitted: None, install: Install, tmp_path: Path) -> None:
    renamed = (
        "        options = {'scale' if name == 'gain' else name: value for name, value in options.items()}\n"
        "        return super().migrate(options, state, version)"
    )
    install("2.0", fields="scale: float = 1.0", migrate=renamed)
    with library(tmp_path) as db:
        assert db.space("tinted").pipeline.encoder.config.scale == 2.0
        assert db.add(texts("a red fox")).new == 1 and db.doctor() == []


READS_THE_FIRST = (
    "        if version == 1:\n"
    "            state, version = {'letters': state['letters'][:4]}, cls.version\n"
    "        return super().migrate(options, state, version)"
)
NESTED = "each(image='precomputed(dim=4)', text='tint(gain=3.0)') >> flat"


@pytest.mark.parametrize("recipe", ["tint(gain=2.0) >> flat", NESTED])
def test_a_state_of_an_earlier_release_is_read_by_one_that_migrates_it(
    fitted: None, install: Install, tmp_path: Path, recipe: str
) -> None:
    with library(tmp_path) as db:
        before = db.fit(recipe, name="old").record.fingerprint
    install("2.0", version=2, migrate=READS_THE_FIRST)
    with library(tmp_path) as db, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert db.space("old").pipeline.fingerprint() == before
        assert db.add(texts("a red fox")).new == 1
        assert db.search(text="a red fox", space="old", modality="text", k=1)[0].key == "a red fox"
        assert db.doctor() == []


def test_an_option_added_to_a_nested_encoder_changes_nothing(fitted: None, install: Install, tmp_path: Path) -> None:
    with library(tmp_path) as db:
        before = db.fit(NESTED, name="nested").record.fingerprint
    install("2.0", fields="gain: float = 1.0; bias: float = 0.0")
    with library(tmp_path) as db:
        assert db.space("nested").pipeline.fingerprint() == before
        assert db.add(texts("a red fox")).new == 1 and db.doctor() == []


def test_a_nested_state_of_another_version_says_so(fitted: None, install: Install, tmp_path: Path) -> None:
    with library(tmp_path) as db:
        db.fit(NESTED, name="nested")
    install("2.0", version=2)
    said = r"tint: the state has version 1, installed is 2; .*fitted with xmr-tint 1\.2, installed is xmr-tint 2\.0"
    with library(tmp_path) as db, pytest.raises(xmr.StateVersionError, match=said):
        db.space("nested")


def test_a_state_of_a_later_release_says_which_release_to_install(
    fitted: None, install: Install, tmp_path: Path
) -> None:
    install("2.0", version=2)
    with library(tmp_path) as db:
        db.fit("tint >> flat", name="tinted")
    install("1.2")
    said = r"the state has version 2, installed is 1; .*fitted with xmr-tint 2\.0, installed is xmr-tint 1\.2"
    with library(tmp_path) as db, pytest.raises(xmr.StateVersionError, match=said):
        db.space("tinted")


def test_stored_arrays_that_were_changed_are_not_called_other_weights(fitted: None, tmp_path: Path) -> None:
    with library(tmp_path) as db:
        db.store.execute("UPDATE xmr.parts SET options = '{\"gain\": 3.0}' WHERE name = 'tint'")
        with pytest.raises(xmr.SpaceMismatchError, match="stored options or arrays were changed") as error:
            db.space("tinted")
    assert "weights" not in str(error.value)


def test_a_library_that_does_not_say_who_brought_a_component_names_it(
    fitted: None, install: Install, tmp_path: Path
) -> None:
    with library(tmp_path) as db:
        db.store.execute("DELETE FROM xmr.providers")
    install(None)
    with (
        library(tmp_path) as db,
        pytest.raises(xmr.UnknownComponentError, match="'tint' installed; install the package"),
    ):
        db.space("tinted")


def test_a_class_of_the_process_is_asked_for_by_name(tmp_path: Path) -> None:
    from xmr_flat import Flat

    class Mine(Flat):
        name = "mine"

    registry.add(Mine)
    with library(tmp_path) as db:
        db.add_embeddings([[1.0, 0.0], [0.0, 1.0]], "own", recipe="mine")
    registry.remove(Mine)
    with library(tmp_path) as db, pytest.raises(xmr.UnknownComponentError, match=r"mine was a class .*registry\.add"):
        db.space("own")


def test_a_component_that_cannot_encode_is_skipped_too(fitted: None, install: Install, tmp_path: Path) -> None:
    install("1.2", result="xmr.missing()")
    (tmp_path / "site" / "xmr_tint.py").write_text(
        (tmp_path / "site" / "xmr_tint.py").read_text().replace("xmr.missing()", "needed()")
        + "\ndef needed():\n    raise xmr.PluginError('tint needs libtint: pip install libtint')\n"
    )
    with library(tmp_path) as db, pytest.warns(xmr.SkippedSpaceWarning, match="cannot encode: tint needs libtint"):
        assert db.add(texts("a red fox")).new == 1


def pairs_of(*lines: str) -> xmr.Pairs:
    """Images that are letters, and texts that say them."""
    split = {"split": ["test"] * len(lines)}
    images = xmr.Items("image", np.eye(len(lines), dtype=np.float32), lines, metadata=split)
    said = xmr.Items("text", lines, lines, metadata=split)
    return xmr.Pairs(images, said, np.arange(len(lines)).repeat(2).reshape(-1, 2))


def test_figures_and_the_command_go_on_without_it(install: Install, tmp_path: Path) -> None:
    install("1.2")
    with library(tmp_path) as db:
        db.add(pairs_of("a dog eats", "two cats", "an owl", "ice"))
        for text, name in (("tint(gain=2.0)", "tinted"), ("bow", "words")):
            db.fit(f"each(image='precomputed(dim=4)', text='{text}') >> ridge >> flat", name=name, where="true")
    install(None)
    with library(tmp_path) as db:
        assert db.evaluate("words").figures and db.audit(space="words")
        (found,) = db.search(text="owl", space="words", k=1, exact=True)
        assert found.key == "an owl"
    file = str(tmp_path / "tinted.duckdb")
    runner = CliRunner()
    shown = runner.invoke(app, ["evaluate", file])
    assert shown.exit_code == 0, shown.stderr
    assert "words version 1" in shown.stdout and "pip install xmr-tint==1.2; it is skipped" in shown.stderr
    assert "pip install xmr-tint==1.2" in runner.invoke(app, ["info", file]).stderr
    assert runner.invoke(app, ["evaluate", file, "--space", "tinted"]).exit_code == 1


def test_an_upsert_takes_the_codes_that_it_cannot_make(words: str, install: Install, tmp_path: Path) -> None:
    other = xmr.Items("text", ["oooo"], ["an owl"])
    with library(tmp_path) as db, pytest.warns(xmr.SkippedSpaceWarning):
        assert db.upsert(other).updated == 1
        assert db.store.coded_ids("tinted", 1, "text").tolist() == [0, 1, 3], "a code of the old content is searched"
    install("1.2")
    with library(tmp_path) as db:
        assert db.refresh() == 1 and db.doctor() == []
        assert db.search(text="ooo", space="tinted", modality="text", k=1)[0].key == "an owl"


# whether it still encodes as it did


def test_the_doctor_sees_a_release_that_computes_something_else(fitted: None, install: Install, tmp_path: Path) -> None:
    install("1.3", result="np.array(rows, np.float32).reshape(-1, 4) * 2")
    with library(tmp_path) as db:
        (found,) = db.doctor()
    assert "4 of 4 sampled texts get other codes in space 'tinted' than it holds" in found
    assert "it was fitted with xmr-tint 1.2, installed is xmr-tint 1.3: pip install xmr-tint==1.2" in found


def test_the_doctor_does_not_mind_rounding(fitted: None, install: Install, tmp_path: Path) -> None:
    install("1.3", result="np.array(rows, np.float32).reshape(-1, 4) * np.float32(1.00001)")
    with library(tmp_path) as db:
        assert db.doctor() == []


@pytest.mark.usefixtures("toy")
def test_the_doctor_leaves_out_images_that_are_gone(pairs: xmr.Pairs, pictures: list[Path], tmp_path: Path) -> None:
    with library(tmp_path) as db:
        db.add(pairs)
        db.fit("toy >> flat", name="near")
        pictures[0].unlink()
        assert [found for found in db.doctor() if "sampled" in found] == []
