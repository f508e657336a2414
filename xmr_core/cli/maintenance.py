"""Commands that keep a library: export, restore, delete, drop, materialize, compact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xmr_core.cli import printing
from xmr_core.cli.app import KEEP, File, Json, Values, Where, Yes, app, condition, counted, opened


@app.command(rich_help_panel=KEEP)
def export(
    file: File,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A new folder; one Parquet file per table goes into it.")
    ],
) -> None:
    """Write a whole library, models and codes too, as Parquet files; `restore` reads them back bit for bit.

    Examples:

      xmr export my.duckdb backup/
    """
    with opened(file) as db:
        db.export(folder)
    typer.echo(f"{file} written to {folder}")


@app.command(rich_help_panel=KEEP)
def restore(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The library: a new DuckDB file, or one without items.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What `export` wrote.")],
) -> None:
    """Read an export into a new library.

    Examples:

      xmr restore copy.duckdb backup/
    """
    import xmr_core as xmr
    from xmr_core.errors import StorageError

    if not folder.is_dir():
        raise StorageError(f"{folder}: no such folder")
    with xmr.open(file) as db:
        db.restore(folder)
        typer.echo(f"{file} holds {counted(dict(db.store.counts()))}")


@app.command(rich_help_panel=KEEP)
def delete(
    file: File,
    ids: Annotated[list[int] | None, typer.Option("--id", help="An item's id, or several, each after --id.")] = None,
    where: Where = None,
    value: Values = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Delete items with their links, labels, features and codes. `compact` then reclaims their disk space.

    Examples:

      xmr delete my.duckdb --id 17 --id 42
      xmr delete my.duckdb --where "split = 'test'" --yes
      xmr delete my.duckdb --where "owner = ?" --value "$OWNER"
    """
    if (ids is None) == (where is None):
        raise typer.BadParameter("give --id or --where")
    chosen = condition(where, value)
    with opened(file, write=True) as db:
        if not yes:
            count = len(db.store.ids(where=chosen)) if chosen is not None else len(ids or ())
            typer.confirm(f"Delete {count} items of {file}?", abort=True, err=True)
        deleted = db.delete(ids=ids, where=chosen)
    if as_json:
        printing.as_json({"deleted": deleted})
    else:
        typer.echo(f"{deleted} items deleted")


@app.command(rich_help_panel=KEEP)
def drop(
    file: File,
    space: Annotated[str, typer.Argument(metavar="SPACE", help="The space.")],
    version: Annotated[int | None, typer.Option("--version", help="One version; else all of them.")] = None,
    yes: Yes = False,
) -> None:
    """Drop a space, or one version of it, with its codes and models. Items stay.

    Examples:

      xmr drop my.duckdb dcmh_sign_hamming --version 1
    """
    with opened(file, write=True) as db:
        db.store.load_space(space, version)  # says what there is, where this is not
        if not yes:
            what = f"version {version} of space {space!r}" if version is not None else f"space {space!r}, all versions"
            typer.confirm(f"Drop {what}?", abort=True, err=True)
        db.drop(space, version)
    typer.echo(f"dropped {space}{'' if version is None else f' version {version}'}")


@app.command(rich_help_panel=KEEP)
def materialize(
    file: File,
    space: Annotated[str, typer.Argument(metavar="SPACE", help="The space, one whose codes SQL decodes.")],
    drop: Annotated[bool, typer.Option("--drop", help="Drop the table; every query decodes the codes again.")] = False,
) -> None:
    """Keep what the codes of a space stand for as a table, so that SQL need not decode them in every query.

    Examples:

      xmr materialize my.duckdb spread
      xmr materialize my.duckdb spread --drop
    """
    with opened(file, write=True) as db:
        db.materialize(space, drop)
    typer.echo(f"the codes of {space} are {'decoded in every query' if drop else 'kept decoded, for SQL'}")


@app.command(rich_help_panel=KEEP)
def compact(file: File, as_json: Json = False) -> None:
    """Reclaim disk space from deleted items.

    Examples:

      xmr compact my.duckdb
    """
    with opened(file, write=True) as db:
        before, after = db.compact()
    if as_json:
        printing.as_json({"bytes_before": before, "bytes_after": after})
    else:
        typer.echo(f"{printing.bytes_of(before)} before, {printing.bytes_of(after)} after")
