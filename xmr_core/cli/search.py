"""Commands that ask a library: search, evaluate, sql."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from xmr_core.cli import printing
from xmr_core.cli.app import ASK, File, Json, SpaceNames, Values, Where, app, condition, opened, value_of
from xmr_core.errors import DataError, StorageError, XmrError
from xmr_core.types import IMAGE

if TYPE_CHECKING:
    from xmr_core.library import Library
    from xmr_core.library.evaluation import Evaluation, Measure
    from xmr_core.library.results import Results


@app.command(rich_help_panel=ASK)
def search(
    file: File,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="A text, in quotes.")] = None,
    image: Annotated[Path | None, typer.Option("--image", help="An image file.")] = None,
    item: Annotated[int | None, typer.Option("--item", help="The id of a stored item.")] = None,
    k: Annotated[int | None, typer.Option("-k", help="How many at most: 10, or all where --within is given.")] = None,
    within: Annotated[float | None, typer.Option("--within", help="Only those of this distance or less.")] = None,
    where: Where = None,
    value: Values = None,
    modality: Annotated[
        str | None, typer.Option("--modality", help="The modality to find, image or text; else the other one.")
    ] = None,
    space: SpaceNames = None,
    exact: Annotated[bool, typer.Option("--exact", help="Search exhaustively.")] = False,
    rerank: Annotated[
        int, typer.Option("--rerank", help="Compare so many candidates again, by what their codes stand for.")
    ] = 0,
    html: Annotated[Path | None, typer.Option("--html", help="Write a contact sheet, a page to look at.")] = None,
    png: Annotated[Path | None, typer.Option("--png", help="Write the contact sheet as an image.")] = None,
    explain: Annotated[
        Path | None, typer.Option("--explain", help="Draw where the space looked, in the query and in its hits.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Find the closest matches in the other modality: images for a text, captions for an image.

    A smaller distance is nearer. A condition never costs hits: k are found where k match.

    Examples:

      xmr search my.duckdb "a dog on green grass" -k 5
      xmr search my.duckdb --image query.jpg --within 12
      xmr search my.duckdb --item 42 --where "split = 'test'"
      xmr search my.duckdb "a dog" --where "owner = ?" --value "$OWNER"
      xmr search my.duckdb "a dog" --space auto --space words
      xmr search my.duckdb "a dog" -k 40 --html dogs.html
      xmr search my.duckdb "a dog" -k 3 --explain dogs.png
      xmr search my.duckdb "a dog" --json | jq -r ".hits[].key"
    """
    if sum(given is not None for given in (text, image, item)) != 1:
        raise typer.BadParameter("give one of: a text, --image, --item")
    if image is not None and not image.is_file():
        raise DataError(f"{image}: no such image")
    chosen = condition(where, value)
    with opened(file) as db:
        one, several = (None, space) if space and len(space) > 1 else (next(iter(space or ()), None), None)
        found = db.search(
            text, image, None, item, k, within, chosen, modality, one, exact, explain is not None, rerank, several
        )
        _write(db, found, text or image or item, explain, html, png)
        if as_json:
            printing.as_json({"query": _asked(text=text, image=image, item=item), **_facts(found)})
        else:
            print_hits(db, found)


def _write(db: Library, found: Results, query: object, explain: Path | None, *sheets: Path | None) -> None:
    """Write the drawing of the attention and the contact sheets that were asked for."""
    if explain is not None:
        found.draw(explain)
        printing.note(f"wrote {explain}")
    for sheet in filter(None, sheets):
        _write_sheet(db, found, query, sheet)


def _asked(**given: Any) -> dict[str, Any]:
    return {kind: value for kind, value in given.items() if value is not None}


def _facts(found: Results) -> dict[str, Any]:
    hits = [
        {
            "rank": rank,
            "id": hit.id,
            "distance": hit.distance,
            "key": hit.key,
            "data": hit.data,
            "metadata": hit.metadata,
            "ranks": hit.ranks,
        }
        for rank, hit in enumerate(found, 1)
    ]
    unknown = found.unknown_words[0] if found.unknown_words else []
    facts = {"space": found.space, "spaces": found.spaces, "modality": found.modality, "exact": found.exact}
    return facts | {"unknown_words": unknown, "hits": hits}


def print_hits(db: Library, found: Results) -> None:
    """A table of hits: captions, or images with one of their captions and their files."""
    from xmr_core.explain.contact_sheet import captions

    said = captions(db, found)
    columns = ["rank", "distance", "id", "key", "caption"]
    rows = [[rank, hit.distance, hit.id, hit.key, said[hit.id]] for rank, hit in enumerate(found, 1)]
    if found.modality == IMAGE and any(hit.data for hit in found):
        columns.append("file")
        rows = [[*row, hit.data] for row, hit in zip(rows, found, strict=True)]
    if found.ranks is not None:  # of each space, beside the rank in all
        columns[2:2] = found.spaces
        rows = [
            [*row[:2], *(hit.ranks.get(space, "") for space in found.spaces), *row[2:]]
            for row, hit in zip(rows, found, strict=True)
        ]
    printing.table(columns, rows)
    how = ", exact" if found.exact else ""
    printing.note(f"{len(found)} {found.modality}s of space {found.space!r}{how}")
    held = db.space(found.spaces[0]).record.counts
    if not len(found) and held and found.modality not in held:
        printing.note(f"it holds {' and '.join(f'{name}s' for name in held)} alone: --modality {next(iter(held))}")
    if found.unknown_words and found.unknown_words[0]:
        printing.note(f"words that the space does not know: {', '.join(found.unknown_words[0])}")


def _write_sheet(db: Library, found: Results, query: object, path: Path) -> None:
    from xmr_core.explain.contact_sheet import contact_sheet

    contact_sheet(db, found, [_content(db, query) if isinstance(query, int) else query], path)
    printing.note(f"wrote {path}")


def _content(db: Library, item: int) -> object:
    """A stored item as a contact sheet takes it: a text, or an image."""
    import numpy as np

    modality = db.store.describe(np.array([item]))["modality"][0]
    (content,) = db.store.items(np.array([item]), modality).data
    return Path(content) if modality == IMAGE and isinstance(content, str) else content


@app.command(rich_help_panel=ASK)
def evaluate(
    file: File,
    space: Annotated[
        list[str] | None, typer.Option("--space", help="A space, or several, each after its own --space; else all.")
    ] = None,
    queries: Annotated[
        str | None,
        typer.Option("--queries", help="The queries, a SQL condition; else split = 'query' or split = 'test'."),
    ] = None,
    database: Annotated[
        str | None, typer.Option("--database", help="What is searched; else all but the queries (MAP), or they (R@K).")
    ] = None,
    measure: Annotated[
        str | None, typer.Option("--measure", help="map, by shared labels, or recall, by pairs; else what data allow.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure spaces both ways, beside what a random ranking gives, and say by which protocol.

    The figures are kept in the library's runs, which `xmr info` shows.

    Examples:

      xmr evaluate my.duckdb
      xmr evaluate my.duckdb --measure recall --queries "split = 'test'"
    """
    with opened(file, write=True) as db:
        if not db.spaces():
            raise DataError("no space yet: fit a recipe first")
        names = space or _loadable(db)
        made = [
            db.evaluate(name, queries=queries, database=database, measure=cast("Measure | None", measure))
            for name in names
        ]
    if as_json:
        printing.as_json([_evaluation_facts(one) for one in made])
        return
    for one in made:
        print_evaluation(one)


def _loadable(db: Library) -> list[str]:
    """The spaces that what is installed can load; a warning says of the others what to install."""
    names = []
    for name in db.spaces():
        try:
            names.append(db.space(name).name)
        except StorageError:
            raise
        except XmrError as error:
            printing.note(f"warning: {error}; it is skipped")
    return names


def _evaluation_facts(made: Evaluation) -> dict[str, Any]:
    import dataclasses

    facts = dataclasses.asdict(made)
    facts["figures"] = facts.pop("figures")  # last, after what they mean
    return facts


def print_evaluation(made: Evaluation) -> None:
    """A table of the figures, under what they mean."""
    seed = "" if made.seed is None else f", seed {made.seed}"
    typer.echo(f"{made.space} version {made.version}: {made.recipe}{seed}, {made.fingerprint[:12]}")
    typer.echo("\n".join([f"queries: {made.queries}; database: {made.database}", made.protocol, *made.remarks]))
    columns = ("measure", "queries", "database", "value", "chance", "queries asked", "items searched")
    printing.table(columns, [tuple(row.values()) for row in made.rows])


@app.command(rich_help_panel=ASK)
def sql(
    file: File,
    query: Annotated[str, typer.Argument(metavar="STATEMENT", help="A statement in the database's SQL, in quotes.")],
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="VALUE", help="Values of $1, $2, ...: numbers, true, false, null, else text."),
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Allow the statement to change the file.")] = False,
    rows: Annotated[int, typer.Option("--rows", help="Rows of a table to show; JSON and CSV give all.", min=1)] = 50,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Run a SQL statement, which may call xmr.search and xmr.encode_text.

    The file is opened for reading, unless --write is given.

    Examples:

      xmr sql my.duckdb "SELECT * FROM xmr.search('a dog', 5)"
      xmr sql my.duckdb "SELECT * FROM xmr.catalog WHERE key = ?" dog.jpg --json
      xmr sql my.duckdb "SELECT space, recipe FROM xmr.spaces" --csv
      xmr sql my.duckdb "CREATE TABLE likes (item_id BIGINT)" --write
    """
    if as_json and as_csv:
        raise typer.BadParameter("give --json or --csv, not both")
    with opened(file, write) as db:
        result = db.sql(query, [value_of(value) for value in values] if values else None)
        if result is None:
            printing.note("done")
            return
        columns, fetched = _distinct([column[0] for column in result.description]), _fetched(result, file)
        if as_json:
            printing.as_json([dict(zip(columns, row, strict=True)) for row in fetched])
        elif as_csv:
            printing.as_csv(columns, fetched)
        else:
            printing.table(columns, itertools.islice(fetched, rows))
            if next(fetched, None) is not None:
                printing.note(f"the first {rows} rows; --rows shows more, --csv and --json all")


def _distinct(names: Sequence[str]) -> list[str]:
    """The names of columns; one that occurs again is numbered (a, a_1), so that no value is lost."""
    made: list[str] = []
    for name in names:
        numbers = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(1)))
        made.append(next(candidate for candidate in numbers if candidate not in made))
    return made


def _fetched(result: Any, file: str) -> Iterator[Sequence[Any]]:
    """The rows of the database's own result, whose errors the core does not know by name."""
    try:
        while block := result.fetchmany(1000):
            yield from block
    except Exception as error:
        raise StorageError(f"{file}: {error}") from error
