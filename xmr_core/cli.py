"""The command `xmr`: a library from the shell. Tables for people, `--json` for programs; messages go to stderr.

Exit codes: 0 done, 1 an error (one line on stderr), 2 a command that cannot be understood. Whatever is slow to import
is imported inside the command that needs it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from xmr_core import printing
from xmr_core.errors import DataError, StorageError, XmrError
from xmr_core.types import IMAGE, TEXT

if TYPE_CHECKING:
    from xmr_core.library import Library
    from xmr_core.results import Results
    from xmr_core.spaces import Space

__all__ = ["app", "main"]

FIRST_STEPS = """First steps:

  xmr demo                                                    learn 1,696 emoji and search them: minutes
  xmr add flickr.duckdb Flickr8k/                             pictures, sentences, and which go together
  xmr fit flickr.duckdb "dcmh(bits=64) >> sign >> hamming"    train, encode, store the codes
  xmr search flickr.duckdb "a dog on green grass"             text -> pictures
  xmr search flickr.duckdb --image query.jpg                  picture -> texts

`xmr COMMAND --help` has examples of each."""


class Commands(TyperGroup):
    """The commands; an error that a person can do something about becomes one line."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            printing.note("stopped; nothing half-written stays, and a fit goes on from its last checkpoint")
            raise typer.Exit(130) from None
        except BrokenPipeError:  # whoever read the output has gone
            raise
        except (XmrError, OSError) as error:
            if ctx.params.get("debug"):
                raise
            printing.note(f"error: {error}")
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=FIRST_STEPS,
)

File = Annotated[Path, typer.Argument(help="The library: a DuckDB file.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
SpaceName = Annotated[str | None, typer.Option("--space", help="The space; needed where there are several.")]
Where = Annotated[str | None, typer.Option("--where", help="A SQL condition on xmr.catalog: split = 'test'.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def main() -> None:
    """The entry point."""
    app(prog_name="xmr")


def _version(wanted: bool) -> None:
    if wanted:
        from xmr_core import __version__

        typer.echo(f"xmr {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="XMR_DEBUG", help="Show where in the program an error was raised.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Cross-modal retrieval in one DuckDB file: pictures found by sentences, sentences by pictures."""


def _open(file: Path, write: bool = False) -> Library:
    """The library of a file that must be there."""
    import xmr_core as xmr

    if "://" not in str(file) and not file.exists():
        raise StorageError(f"{file}: no such file; `xmr add {file} SOURCE` makes one")
    return xmr.open(file, read_only=not write)


def _chosen(space: str | None, db: Library) -> str:
    return db.space(space).name


# filling


@app.command(rich_help_panel="Fill")
def add(
    file: Annotated[Path, typer.Argument(help="The library: a DuckDB file, made where it is not there.")],
    source: Annotated[Path, typer.Argument(help="A dataset's folder, a table of captions, or a folder of pictures.")],
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

      xmr add flickr.duckdb Flickr8k/                    a dataset in its publisher's layout
      xmr add shop.duckdb products.csv                   a table of captions: csv, tsv or parquet
      xmr add mine.duckdb holiday/ --skip-bad            a folder of pictures, broken ones left out
      xmr add mir.duckdb mirflickr25k --reader mirflickr25k
    """
    import xmr_core as xmr
    from xmr_core import datasets

    pairs = datasets.read(reader or datasets.detect(source), source)
    with xmr.open(file) as db:
        done = db.add(pairs, on_error="skip" if skip_bad else "refuse")
        counts = dict(db.store.counts())
    if as_json:
        printing.as_json({"new": done.new, "known": done.known, "skipped": done.skipped, "items": counts})
        return
    for key, reason in done.skipped.items():
        printing.note(f"skipped {key}: {reason}")
    known = f", {done.known} were there already" if done.known else ""
    typer.echo(f"{done.new} items added{known}; {file} holds {_counted(counts)}")


@app.command(rich_help_panel="Fill")
def fit(
    file: File,
    recipe: Annotated[str, typer.Argument(help="Components joined by >>; `xmr plugins` lists them.")],
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

      xmr fit flickr.duckdb "dcmh(bits=64) >> sign >> hamming"
      xmr fit flickr.duckdb "dcmh(bits=64) >> sign >> hamming" --name quick --where "split = 'train'" --seed 1
      xmr plugins dcmh                                   what its options mean and cost
    """
    with _open(file, write=True) as db:
        start = time.perf_counter()
        space = db.fit(recipe, name=name, where=where, seed=seed)
        seconds = time.perf_counter() - start
    summary = _summary(space) | {"seconds": round(seconds, 2)}
    if as_json:
        printing.as_json(summary)
        return
    codes = ", ".join(f"{count} {modality}s" for modality, count in summary["codes"].items())
    typer.echo(f"space {space.name!r} version {summary['version']}: {codes} encoded; {seconds:.1f} s")
    typer.echo(f"recipe       {summary['recipe']}\nfingerprint  {summary['fingerprint'][:12]}")


def _summary(space: Space) -> dict[str, Any]:
    return _space_row(space.record)


# asking


@app.command(rich_help_panel="Ask")
def search(
    file: File,
    text: Annotated[str | None, typer.Argument(help="A sentence, in quotes.", show_default=False)] = None,
    image: Annotated[Path | None, typer.Option("--image", help="A picture's file.")] = None,
    item: Annotated[int | None, typer.Option("--item", help="The id of a stored item.")] = None,
    k: Annotated[
        int | None, typer.Option("-k", help="How many at most; 10, or all where --within is given.")
    ] = None,
    within: Annotated[float | None, typer.Option("--within", help="Only those of this distance or less.")] = None,
    where: Where = None,
    modality: Annotated[
        str | None, typer.Option("--modality", help="The kind to find, image or text; else the other kind.")
    ] = None,
    space: SpaceName = None,
    exact: Annotated[bool, typer.Option("--exact", help="Search exhaustively.")] = False,
    html: Annotated[Path | None, typer.Option("--html", help="Write a contact sheet, one page to look at.")] = None,
    png: Annotated[Path | None, typer.Option("--png", help="Write the contact sheet as a picture.")] = None,
    as_json: Json = False,
) -> None:
    """Find the nearest of the other kind: pictures for a sentence, sentences for a picture.

    A smaller distance is nearer. A condition never costs hits: k are found where k match.

    Examples:

      xmr search flickr.duckdb "a dog on green grass" -k 5
      xmr search flickr.duckdb --image query.jpg --within 12
      xmr search flickr.duckdb --item 42 --where "split = 'test'"
      xmr search flickr.duckdb "a dog" -k 40 --html dogs.html
      xmr search flickr.duckdb "a dog" --json | jq -r ".hits[].key"
    """
    if sum(given is not None for given in (text, image, item)) != 1:
        raise typer.BadParameter("give one of: a text, --image, --item")
    if image is not None and not image.is_file():
        raise DataError(f"{image}: no such picture")
    with _open(file) as db:
        found = db.search(
            text=text, image=image, item=item, k=k, within=within, where=where, modality=modality, space=space,
            exact=exact,
        )  # fmt: skip
        for sheet in filter(None, (html, png)):
            _sheet(db, found, text or image or item, sheet)
        _print_hits(found, {"text": text, "image": image and str(image), "item": item}, as_json)


def _print_hits(found: Results, query: dict[str, Any], as_json: bool) -> None:
    if as_json:
        hits = [
            {"rank": rank, "id": hit.id, "distance": hit.distance, "key": hit.key, "modality": hit.modality,
             "data": hit.data, "metadata": hit.metadata}
            for rank, hit in enumerate(found, 1)
        ]  # fmt: skip
        asked = {kind: value for kind, value in query.items() if value is not None}
        head = {"query": asked, "space": found.space, "modality": found.modality, "exact": found.exact}
        printing.as_json(head | {"hits": hits})
        return
    rows = [(rank, hit.distance, hit.id, hit.key, hit.data) for rank, hit in enumerate(found, 1)]
    shown = "sentence" if found.modality == TEXT else "file"
    printing.table(("", "distance", "id", "key", shown), rows)
    printing.note(f"{len(found)} {found.modality}s of space {found.space!r}{', exact' if found.exact else ''}")


def _sheet(db: Library, found: Results, query: object, path: Path) -> None:
    from xmr_core.sheet import contact_sheet

    contact_sheet(db, found, [_stored(db, query) if isinstance(query, int) else query], path)
    printing.note(f"wrote {path}")


def _stored(db: Library, item: int) -> object:
    """A stored item as a contact sheet takes it: a sentence, or a picture."""
    import numpy as np

    modality = db.store.describe(np.array([item]))["modality"][0]
    (content,) = db.store.items(np.array([item]), modality).data
    return Path(content) if modality == IMAGE and isinstance(content, str) else content


@app.command(rich_help_panel="Ask")
def sql(
    file: File,
    query: Annotated[str, typer.Argument(help="A statement in DuckDB's SQL, in quotes.")],
    values: Annotated[
        list[str] | None, typer.Argument(help="Values for $1, $2, ...: numbers, true, false, null, else text.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Allow the statement to change the file.")] = False,
    rows: Annotated[int, typer.Option("--rows", help="Rows of a table to show; JSON and CSV give all.", min=1)] = 50,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Run a SQL statement, with xmr.search and xmr.encode_text at hand.

    The file is opened for reading, unless --write is given. docs/sql.md shows what can be asked.

    Examples:

      xmr sql flickr.duckdb "SELECT modality, count(\\*) FROM xmr.items GROUP BY ALL"
      xmr sql flickr.duckdb "SELECT key, distance FROM xmr.search('a dog', 5) JOIN xmr.items USING (item_id)"
      xmr sql flickr.duckdb "SELECT \\* FROM xmr.catalog WHERE key = \\$1" dog.jpg --json
      xmr sql flickr.duckdb "CREATE TABLE likes (item_id BIGINT)" --write
    """
    if as_json and as_csv:
        raise typer.BadParameter("give --json or --csv, not both")
    with _open(file, write) as db:
        result = db.sql(query, [_value(value) for value in values] if values else None)
        if result is None:
            printing.note("done")
            return
        columns, fetched = list(result.columns), _fetched(result, file)
        if as_json:
            printing.as_json([dict(zip(columns, row, strict=True)) for row in fetched])
        elif as_csv:
            printing.as_csv(columns, fetched)
        else:
            shown = [row for row, _ in zip(fetched, range(rows), strict=False)]
            printing.table(columns, shown)
            if next(fetched, None) is not None:
                printing.note(f"the first {rows} rows; --rows shows more, --csv and --json all")


def _value(text: str) -> Any:
    """A value from the command line: what JSON reads as a number, true, false or null; else the text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, (dict, list, str)) else value


def _fetched(result: Any, file: Path) -> Iterator[Sequence[Any]]:
    """The rows of the database's own result, whose errors the core does not know by name."""
    try:
        while block := result.fetchmany(1000):
            yield from block
    except Exception as error:
        raise StorageError(f"{file}: {error}") from error


@app.command(rich_help_panel="Ask")
def info(file: File, as_json: Json = False) -> None:
    """What is in a library: items, spaces with their versions and fingerprints, sizes, the latest runs.

    Examples:

      xmr info flickr.duckdb
      xmr info flickr.duckdb --json | jq ".spaces[].fingerprint"
    """
    with _open(file) as db:
        counts = dict(db.store.counts())
        columns = db.store.metadata_columns()
        spaces = [_space_row(record) for record in db.store.spaces()]
        runs = _runs(db)
        size, cache = _size(Path(db.store.url)), _size(db.store.folder)
    pairs, labels = counts.pop("pairs", 0), counts.pop("labels", 0)
    facts = {"file": str(file), "bytes": size, "cache_bytes": cache, "items": counts, "pairs": pairs,
             "labels": labels, "columns": columns, "spaces": spaces, "runs": runs}  # fmt: skip
    if as_json:
        printing.as_json(facts)
        return
    beside = f", {printing.bytes_of(cache)} of caches beside it" if cache else ""
    printing.fields(
        {
            "file": f"{file}, {printing.bytes_of(size)}{beside}",
            "items": _counted(counts),
            "pairs": pairs,
            "labels": labels,
            "columns": ", ".join(columns) or "none",
        }
    )
    _print_spaces(spaces)
    _print_runs(runs)


def _print_spaces(spaces: list[dict[str, Any]]) -> None:
    if not spaces:
        typer.echo("spaces   none; `xmr fit` makes one")
        return
    shown = [
        (space["space"], space["version"], "yes" if space["published"] else "", _counted(space["codes"]),
         f"{space['code_bytes']} bytes, {space['layout']}", space["fingerprint"][:12], space["recipe"])
        for space in spaces
    ]  # fmt: skip
    printing.table(("space", "version", "published", "codes", "a code", "fingerprint", "recipe"), shown, "Spaces")


def _print_runs(runs: list[dict[str, Any]]) -> None:
    if runs:
        shown = [
            (run["created"], run["space"], run["version"], run["what"], run["step"],
             "  ".join(f"{name}={value:.4g}" for name, value in run["figures"].items()))
            for run in runs
        ]  # fmt: skip
        printing.table(("run", "space", "version", "what", "step", "figures"), shown, "Latest runs, their last step")


def _space_row(record: Any) -> dict[str, Any]:
    return {
        "space": record.name,
        "version": record.version,
        "published": bool(record.published),
        "recipe": record.recipe,
        "metric": record.metric,
        "layout": record.layout.kind,
        "dim": record.layout.dim,
        "code_bytes": record.layout.nbytes,
        "codes": dict(record.counts),
        "seed": record.seed,
        "created": record.created,
        "fingerprint": record.fingerprint,
    }


LATEST_RUNS = """
SELECT r.run_id, r.space, r.version, r.created, m.what, m.step, m.name, m.value
FROM xmr.runs AS r JOIN xmr.metrics AS m USING (run_id)
WHERE (m.run_id, m.what, m.step) IN (SELECT (run_id, what, max(step)) FROM xmr.metrics GROUP BY run_id, what)
ORDER BY r.created DESC, r.run_id, m.what, m.name
LIMIT 60
"""


def _runs(db: Library) -> list[dict[str, Any]]:
    """The figures of the last step of each thing that the latest runs logged."""
    runs: dict[tuple[str, str], dict[str, Any]] = {}
    for run, space, version, created, what, step, name, value in db.store.sql(LATEST_RUNS).fetchall():
        head = {"run": run, "space": space, "version": version, "created": created, "what": what, "step": step}
        runs.setdefault((run, what), head | {"figures": {}})["figures"][name] = value
    return list(runs.values())[:10]


def _size(path: Path | None) -> int:
    """Bytes of a file, or of all files of a folder."""
    if path is None or not path.exists():
        return 0
    return path.stat().st_size if path.is_file() else sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def _counted(counts: dict[str, int]) -> str:
    shown = {what: count for what, count in counts.items() if what not in ("pairs", "labels")}
    return ", ".join(f"{count:,} {what}s" for what, count in shown.items()) or "nothing"
