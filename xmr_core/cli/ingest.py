"""Commands that fill a library: add, sync, fit."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xmr_core.cli import printing
from xmr_core.cli.app import FILL, File, Json, Values, app, condition, counted, opened, value_of
from xmr_core.cli.info import space_facts

if TYPE_CHECKING:
    from xmr_core.datasets import Dataset
    from xmr_core.library.adding import Added

NAMED = 20  # skipped items that are named for people

Library = Annotated[
    str, typer.Argument(metavar="FILE", help="The library: a DuckDB file or URL, created if it does not exist.")
]
Reader = Annotated[str | None, typer.Option("--reader", help="The reader, where SOURCE is not recognised.")]
Options = Annotated[
    list[str] | None, typer.Option("--option", "-o", help="An option of the reader, as NAME=VALUE; repeatable.")
]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out unreadable images and empty texts, and name them.")
]


@app.command(rich_help_panel=FILL)
def add(
    file: Library,
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A table, a folder of images, a data set, or `openmoji`.")
    ],
    update: Annotated[
        bool, typer.Option("--update", help="Replace the content of items whose key is known, under their ids.")
    ] = False,
    reader: Reader = None,
    options: Options = None,
    split: Annotated[
        str | None,
        typer.Option("--split", help="The column that says train, val or test; or shares to draw: test=0.2,val=0.1."),
    ] = None,
    vectors: Annotated[
        list[str] | None,
        typer.Option(
            "--vectors",
            help="Ready-made vectors, NAME=IMAGES,TEXTS: columns, or .npy files with a row a row; one may be empty.",
        ),
    ] = None,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Add images and captions, and which go together.

    All of SOURCE is added or, on an error, nothing. Adding twice adds nothing; columns of known items are updated, and
    one that has other content now is refused: --update replaces it, under the id that it has.
    New items get codes in every published space. SOURCE is a table (CSV, TSV, Parquet, JSON, Arrow) with an image, a
    text or both a row, a folder of images, COCO captions, WebDataset shards, or a data set in its publisher's layout.
    Columns with usual names are found; -o names others.

    Examples:

      xmr add my.duckdb Flickr8k/                 a dataset as its publisher lays it out
      xmr add my.duckdb captions.csv --skip-bad   a table, rows that are broken left out
      xmr add my.duckdb shop.csv -o image=photo -o text=title -o labels=tags
      xmr add my.duckdb captions.csv --update     what is known becomes what it is now
      xmr add my.duckdb openmoji                  emoji, from Python packages
    """
    import xmr_core as xmr

    pairs = _read(source, reader, options or [], split, vectors or [], skip_bad)
    with xmr.open(file) as db:
        put = db.upsert if update else db.add
        done = put(pairs, on_error="skip" if skip_bad else "refuse")
        counts = dict(db.store.counts())
    skipped = {**pairs.skipped, **done.skipped}
    if as_json:
        told = {"new": done.new, "known": done.known, "updated": done.updated, "unchanged": done.unchanged}
        left_out = {"skipped": skipped, "uncoded": done.uncoded}
        printing.as_json({**told, **left_out, "protocol": pairs.protocol, "holds": counts})
    else:
        _tell(done, skipped, f"{file} holds {counted(counts)}")
        printing.note(pairs.protocol)


def _tell(done: Added, skipped: Mapping[str, str], holds: str) -> None:
    """What was added and what was not, for people."""
    _tell_lacking(skipped, done.uncoded)
    known = f", {done.known:,} were there already" if done.known else ""
    known += f" and {done.updated:,} of those were updated" if done.updated else ""
    typer.echo(f"{done.new:,} items added{known}; {holds}")


def _tell_lacking(skipped: Mapping[str, str], uncoded: Mapping[str, str]) -> None:
    """What was left out, and what has no code, for people."""
    for key, reason in itertools.islice(skipped.items(), NAMED):
        printing.note(f"skipped {key}: {reason}")
    if len(skipped) > NAMED:
        printing.note(f"and {len(skipped) - NAMED:,} more; --json names all")
    if uncoded:
        printing.note(f"{len(uncoded):,} items have no code: {next(iter(uncoded.values()))}")


@app.command(rich_help_panel=FILL)
def sync(
    file: Library,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder of images, or a table of them.")],
    prefix: Annotated[
        str, typer.Option("--prefix", help="What goes before every key, to keep folders with the same names apart.")
    ] = "",
    reader: Reader = None,
    options: Options = None,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Let the library hold what a folder holds: add, change and remove what differs.

    FOLDER is read as `add` reads it, and an image goes together with its captions. Only what came from FOLDER is
    changed or removed; a second time nothing is done. Files whose size and times are as they were are not read again.

    Examples:

      xmr sync my.duckdb photos/
      xmr sync my.duckdb cats/ --prefix cats/ --skip-bad
    """
    import xmr_core as xmr

    given = dict(option.partition("=")[::2] for option in options or [])
    with xmr.open(file) as db:
        done = db.sync(
            folder,
            prefix,
            reader,
            on_error="skip" if skip_bad else "refuse",
            **{name: value_of(value) for name, value in given.items()},
        )
        counts = dict(db.store.counts())
    if as_json:
        printing.as_json({**dataclasses.asdict(done), "holds": counts})
    else:
        _tell_lacking(done.skipped, done.uncoded)
        typer.echo(f"{done}; {file} holds {counted(counts)}")


def _read(
    source: Path, reader: str | None, options: Sequence[str], split: str | None, vectors: Sequence[str], skip_bad: bool
) -> Dataset:
    """What a reader gives. Raises XmrError; a usage error for an option that it does not take."""
    from xmr_core import datasets
    from xmr_core.datasets.readers import reader_options

    name = reader or (datasets.detect(source) if source.exists() else str(source))
    takes = reader_options(name) if name in datasets.READERS else []
    given: dict[str, Any] = {} if split is None else {"split": _shares(split)}
    for option in options:
        key, equals, value = option.partition("=")
        if takes and (not equals or key not in takes):
            raise typer.BadParameter(f"{option!r}: the reader {name} takes {', '.join(takes)}, as NAME=VALUE")
        given[key] = value_of(value)
    if vectors:
        given["vectors"] = dict(map(_sides, vectors))
    if skip_bad and "on_error" in takes:
        given["on_error"] = "skip"
    return datasets.read(name, None if name == str(source) else source, **given)


def _sides(option: str) -> tuple[str, tuple[str | None, str | None]]:
    """`clip=clip_image,clip_text` as a name and its two columns."""
    name, _, sides = option.partition("=")
    image, comma, text = sides.partition(",")
    if not comma or not (image or text):
        raise typer.BadParameter(f"--vectors {option!r}: write NAME=IMAGES,TEXTS, like clip=clip_image,clip_text")
    return name, (image or None, text or None)


def _shares(split: str) -> str | float | dict[str, float]:
    """`test=0.2,val=0.1` as shares, 0.2 as that of test; else the name of a column."""
    try:
        if "=" not in split:
            return float(split)
        return {part.strip(): float(share) for part, _, share in (one.partition("=") for one in split.split(","))}
    except ValueError:
        if "=" in split:
            raise typer.BadParameter(f"--split {split!r}: write test=0.2, or test=0.2,val=0.1") from None
        return split


@app.command(rich_help_panel=FILL)
def fit(
    file: File,
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="RECIPE", help="Components joined by >>, in quotes; without it one is chosen."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What the space is called, here and in SQL.")] = None,
    where: Annotated[
        str | None,
        typer.Option("--where", help="The training items, a SQL condition; else split = 'train' where there are any."),
    ] = None,
    value: Values = None,
    seed: Annotated[int, typer.Option("--seed", help="The seed of everything random.")] = 0,
    as_json: Json = False,
) -> None:
    """Train a recipe, encode every item, store the codes, publish the space.

    Without a recipe, one is chosen that suits what is in the library, by held-out recall if several do, and the choice
    is explained. A recipe is an encoder, any number of fusers, and an indexer. Fitting under a known name makes a new
    version, and the old one serves until the new one is ready. A fit that was stopped resumes when the same command is
    given again.

    Which recipe, by what you have:

      captions     none: ridge, cca or contrastive is chosen; up to two minutes
      embeddings   "precomputed(name='clip') >> flat": your model's own ranking
      CLIP export  "onnx('clip/') >> flat": no captions, nothing is trained
      labels       "dcmh(bits=64) >> sign >> hamming": 8 bytes an item, the same
                   category, not the same content; minutes

    Examples:

      xmr fit my.duckdb                             choose a recipe, and say why
      xmr fit my.duckdb "dcmh(bits=64) >> sign >> hamming"
      xmr fit my.duckdb "dcmh(bits=32) >> sign >> hamming" --name short --seed 1
      xmr plugins dcmh                              what its options mean and what they cost
    """
    chosen = condition(where, value)
    with opened(file, write=True) as db:
        start = time.perf_counter()
        space = db.fit(recipe, name=name, where=chosen, seed=seed)
        seconds = time.perf_counter() - start
    facts = space_facts(space.record)
    if as_json:
        choice = dataclasses.asdict(space.choice) if space.choice else None
        printing.as_json(facts | {"seconds": round(seconds, 2), "choice": choice})
        return
    typer.echo(f"space {space.name!r} version {facts['version']}: codes of {counted(facts['codes'])}; {seconds:.1f} s")
    printing.fields({"recipe": facts["recipe"], "fingerprint": facts["fingerprint"][:12]})
    if space.choice:
        typer.echo(f"chosen: {space.choice}")
