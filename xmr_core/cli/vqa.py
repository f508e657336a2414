"""The command that answers questions about images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xmr_core.cli import printing
from xmr_core.cli.app import ASK, File, Json, app, opened


@app.command(rich_help_panel=ASK)
def answer(
    file: File,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="A question, in quotes.")],
    image: Annotated[Path | None, typer.Option("--image", help="The image file.")] = None,
    item: Annotated[int | None, typer.Option("--item", help="The id of a stored image.")] = None,
    k: Annotated[int, typer.Option("-k", help="How many answers.")] = 5,
    name: Annotated[str | None, typer.Option("--name", help="The answerer; needed where there are several.")] = None,
    explain: Annotated[
        Path | None, typer.Option("--explain", help="Draw where it looked, in the image and the question.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Answer a question about an image, with what `db.learn` has learned (in Python: docs/answers.md).

    Examples:

      xmr answer my.duckdb "what colour is the circle?" --image shape.png
      xmr answer my.duckdb "is there a dog?" --item 42 -k 2 --explain dog.png
    """
    if (image is None) == (item is None):
        raise typer.BadParameter("give one of: --image, --item")
    with opened(file) as db:
        given = db.answer(image, question, k=k, name=name, item=item)
    if explain is not None:
        given.draw(explain)
        printing.note(f"wrote {explain}")
    unknown = given.unknown[0] if given.unknown else []
    rows = [(rank, one.probability, one.text) for rank, one in enumerate(given, 1)]
    columns = ("rank", "probability", "answer")
    if as_json:
        answers = [dict(zip(columns, row, strict=True)) for row in rows]
        printing.as_json({"question": question, "unknown_words": unknown, "answers": answers})
        return
    printing.table(columns, rows)
    if unknown:
        printing.note(f"never met in training: {', '.join(unknown)}")
