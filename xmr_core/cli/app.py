"""The application, what its commands share, and what becomes of errors."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from xmr_core.cli import printing
from xmr_core.errors import SkippedSpaceWarning, StorageError, XmrError

if TYPE_CHECKING:
    from xmr_core.library import Library
    from xmr_core.search.condition import Condition

__all__ = [
    "ASK",
    "FILL",
    "KEEP",
    "LOOK",
    "File",
    "Json",
    "SpaceNames",
    "Where",
    "Yes",
    "app",
    "counted",
    "opened",
    "value_of",
]

PANELS = FILL, ASK, LOOK, KEEP = "Fill a library", "Ask it", "Look at it", "Keep it"  # of `xmr --help`, in this order

FIRST_STEPS = """First steps:

  xmr demo                                      learn emoji and search them
  xmr add my.duckdb captions.csv                images and captions; a folder will do
  xmr fit my.duckdb                             choose a recipe, train, encode, store codes
  xmr search my.duckdb "a dog on green grass"   text to images
  xmr search my.duckdb --image query.jpg        image to texts

xmr COMMAND --help has examples of each.
Exit codes: 0 done, 1 an error, 2 a command line that was not understood."""


class Commands(TyperGroup):
    """The commands; an error that a person can do something about is one line, not a traceback."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, panel by panel."""
        return sorted(
            self.commands, key=lambda name: PANELS.index(getattr(self.commands[name], "rich_help_panel", KEEP))
        )

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always", SkippedSpaceWarning)
                warnings.showwarning = _note_warning
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


def _note_warning(message: Warning | str, *_: object, **__: object) -> None:
    """A warning as people read it: without the line of the program that gave it."""
    printing.note(f"warning: {message}")


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=FIRST_STEPS,
)

File = Annotated[str, typer.Argument(metavar="FILE", help="The library: a DuckDB file, or the URL of another store.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
SpaceNames = Annotated[
    list[str] | None,
    typer.Option("--space", help="The space; after several --space, their rankings are fused."),
]
Where = Annotated[str | None, typer.Option("--where", help="A SQL condition on xmr.catalog: \"split = 'test'\".")]
Values = Annotated[
    list[str] | None,
    typer.Option("--value", help="The value of a ? in --where, in their order; the shell's variables are safe here."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def opened(file: str, write: bool = False) -> Library:
    """The library of a file that must be there. Raises StorageError."""
    import xmr_core as xmr

    if "://" not in file and not Path(file).exists():
        raise StorageError(f"{file}: no such file; `xmr add {file} SOURCE` makes one")
    return xmr.open(file, read_only=not write)


def condition(where: str | None, values: list[str] | None) -> Condition | None:
    """The condition of --where and --value. Raises DataError."""
    from xmr_core.search.condition import Condition

    if where is None and values:
        raise typer.BadParameter("--value is for a ? in --where")
    return None if where is None else Condition(where, tuple(values or ()))


def counted(counts: dict[str, int]) -> str:
    """Counts of kinds of items as people say them: `8 texts, 4 images`."""
    shown = {what: count for what, count in counts.items() if what not in ("pairs", "labels")}
    return ", ".join(f"{count:,} {what}{'' if count == 1 else 's'}" for what, count in shown.items()) or "nothing"


def value_of(text: str) -> Any:
    """A value of the command line: what JSON reads as a number, true, false or null; else the text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, (dict, list, str)) else value


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
    """Cross-modal retrieval in one DuckDB file: images found by text, captions found by image."""
