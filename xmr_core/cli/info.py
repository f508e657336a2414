"""Commands that look at what there is: info, plugins, doctor."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xmr_core.cli import printing
from xmr_core.cli.app import LOOK, File, Json, app, counted, opened

if TYPE_CHECKING:
    from xmr_core.library import Library
    from xmr_core.registry import Entry
    from xmr_core.store import SpaceRecord

RUNS = 10  # that `info` shows


@app.command(rich_help_panel=LOOK)
def info(file: File, as_json: Json = False) -> None:
    """What is in a library: items, spaces with their versions and fingerprints, sizes, the latest runs.

    Examples:

      xmr info my.duckdb
      xmr info my.duckdb --json | jq ".spaces[].fingerprint"
    """
    from xmr_core.library.installed import lacking

    with opened(file) as db:
        counts = dict(db.store.counts())
        facts = {
            "file": file,
            "bytes": db.store.size,
            "cache_bytes": db.store.cache_size,
            "pairs": counts.pop("pairs", 0),
            "labels": counts.pop("labels", 0),
            "items": counts,
            "columns": db.store.metadata_columns(),
            "spaces": [space_facts(record) | {"lacks": lacking(db.store, record)} for record in db.store.spaces()],
            "answerers": [_answerer_facts(record) for record in db.store.spaces("answerer")],
            "runs": _runs(db),
        }
    if as_json:
        printing.as_json(facts)
    else:
        _print_info(facts)


def _print_info(facts: dict[str, Any]) -> None:
    cache = f", caches of {printing.bytes_of(facts['cache_bytes'])} beside it" if facts["cache_bytes"] else ""
    printing.fields(
        {
            "file": f"{facts['file']}, {printing.bytes_of(facts['bytes'])}{cache}",
            "items": counted(facts["items"]),
            "pairs": f"{facts['pairs']:,}",
            "labels": f"{facts['labels']:,} different",
            "columns": ", ".join(facts["columns"]) or "none",
            "spaces": f"{len(facts['spaces'])}" if facts["spaces"] else "none yet: `xmr fit` makes one",
        }
    )
    if facts["spaces"]:
        _print_spaces(facts["spaces"])
    if facts["answerers"]:
        columns = ("answerer", "seed", "fingerprint", "recipe")
        rows = [(one["answerer"], one["seed"], one["fingerprint"][:12], one["recipe"]) for one in facts["answerers"]]
        printing.table(columns, rows, "Answerers")
    if facts["runs"]:
        _print_runs(facts["runs"])


def _print_spaces(spaces: list[dict[str, Any]]) -> None:
    columns = ("space", "version", "published", "codes", "a code", "fingerprint", "recipe")
    rows = [
        (
            space["space"],
            space["version"],
            space["published"],
            counted(space["codes"]),
            f"{space['code_bytes']} bytes, {space['layout']}",
            space["fingerprint"][:12],
            space["recipe"],
        )
        for space in spaces
    ]
    printing.table(columns, rows, "Spaces")
    for space in spaces:
        if space["lacks"]:
            printing.note(f"warning: space {space['space']!r} cannot be loaded: {space['lacks']}")


def _print_runs(runs: list[dict[str, Any]]) -> None:
    columns = ("run", "space", "version", "what", "step", "figures")
    rows = [
        (
            run["created"],
            run["space"],
            run["version"],
            run["what"],
            run["step"],
            "  ".join(f"{name}={value:.4g}" for name, value in run["figures"].items()),
        )
        for run in runs
    ]
    printing.table(columns, rows, "Latest runs, the last step of each")


def _answerer_facts(record: SpaceRecord) -> dict[str, Any]:
    return {
        "answerer": record.name,
        "recipe": record.recipe,
        "seed": record.seed,
        "created": record.created,
        "fingerprint": record.fingerprint,
    }


def space_facts(record: SpaceRecord) -> dict[str, Any]:
    """A space as JSON has it."""
    layout = record.code_layout
    return {
        "space": record.name,
        "version": record.version,
        "published": bool(record.published),
        "recipe": record.recipe,
        "metric": record.metric,
        "layout": layout.name,
        "dim": layout.dim,
        "code_bytes": layout.nbytes,
        "codes": dict(record.counts),
        "seed": record.seed,
        "created": record.created,
        "fingerprint": record.fingerprint,
    }


def _runs(db: Library) -> list[dict[str, Any]]:
    """The figures of the last step of each thing that the latest runs logged."""
    return [
        {
            "run": run.run,
            "space": run.space,
            "version": run.version,
            "created": run.created,
            "what": run.what,
            "step": run.step,
            "figures": dict(run.figures),
        }
        for run in db.store.latest_runs(RUNS)
    ]


@app.command(rich_help_panel=LOOK)
def plugins(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A component, to see its options.")] = None,
    as_json: Json = False,
) -> None:
    """What is installed: every component with its role and who brought it, and plugins that could not be loaded.

    Examples:

      xmr plugins                   all components
      xmr plugins dcmh              the options of one, what they mean and what they cost
      xmr plugins --json
    """
    from xmr_core.errors import UnknownComponentError
    from xmr_core.registry import default

    registry = default()
    entries = [entry for entry in registry.entries() if name in (None, entry.name)]
    if name is not None and not entries:
        names = ", ".join(sorted({entry.name for entry in registry.entries()}))
        raise UnknownComponentError(f"no component {name!r} installed; there are {names}")
    if as_json:
        problems = [dataclasses.asdict(problem) for problem in registry.problems]
        printing.as_json({"components": [_component_facts(entry) for entry in entries], "problems": problems})
        return
    if name is None:
        rows = [(entry.role, entry.name, _first_line(entry.component), entry.distribution) for entry in entries]
        printing.table(("role", "name", "what it is", "from"), rows)
    for entry in entries if name is not None else ():
        _print_component(entry)
    for problem in registry.problems:
        printing.note(f"left out: {problem}")


def _print_component(entry: Entry) -> None:
    typer.echo(f"{entry.role} {entry.name}, from {entry.distribution}: {_first_line(entry.component)}")
    options = _options(entry)
    if options:
        columns = ("option", "default", "allowed", "description and cost")
        rows = [(one["name"], one["default"], one["allowed"], one["meaning"]) for one in options]
        printing.table(columns, rows)


def _component_facts(entry: Entry) -> dict[str, Any]:
    return {
        "role": entry.role,
        "name": entry.name,
        "about": _first_line(entry.component),
        "distribution": entry.distribution,
        "plugin": entry.plugin,
        "options": _options(entry),
    }


def _first_line(component: type[Any]) -> str:
    return (component.__doc__ or "").strip().split("\n", 1)[0]


def _options(entry: Entry) -> list[dict[str, Any]]:
    """The options of a component as its config declares them; a store has none."""
    from xmr_core.options import options_of

    config = getattr(entry.component, "Config", None)
    return [
        {
            "name": option.name,
            "default": None if option.required else repr(option.default),
            "allowed": option.allowed,
            "meaning": option.meaning,
        }
        for option in (options_of(config) if config else ())
    ]


@app.command(rich_help_panel=LOOK)
def doctor(
    file: File,
    repair: Annotated[bool, typer.Option("--repair", help="Repair what follows from the rest of the library.")] = False,
    thorough: Annotated[bool, typer.Option("--thorough", help="Compare all content with its hashes: slow.")] = False,
    as_json: Json = False,
) -> None:
    """Check for inconsistencies in a library; exit code 1 if any are found, or are left after a repair.

    Examples:

      xmr doctor my.duckdb && echo well

      xmr doctor my.duckdb --repair
    """
    with opened(file, write=repair) as db:
        found = db.doctor(repair, thorough)
    left = [finding for finding in found if not finding.mended]
    for finding in found:
        if finding.mended:
            typer.echo(f"repaired: {finding}", err=True)
    if as_json:
        printing.as_json(left)
    else:
        typer.echo("\n".join(left) if left else f"{file}: all is well")
    if left:
        raise typer.Exit(1)
