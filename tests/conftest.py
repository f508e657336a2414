"""Fixtures that many tests share: a toy plugin, and a handful of coloured pictures with sentences."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import xmr_core as xmr
from xmr_core import registry

HERE = Path(__file__).parent
TOY = str(HERE / "toy")
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


@contextlib.contextmanager
def toy_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The toy plugin installed, for this process and for those it starts."""
    monkeypatch.syspath_prepend(TOY)
    roots = [
        TOY,
        *(str(HERE.parent / shelf) for shelf in (".", "plugins", "storage")),
        os.environ.get("PYTHONPATH", ""),
    ]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(root for root in roots if root))
    registry.default.cache_clear()
    yield
    registry.default.cache_clear()
    sys.modules.pop("xmr_toy", None)


def colour_pairs(folder: Path) -> xmr.Pairs:
    """Four images in files of a folder, two texts each; one label a colour; red and green are for training."""
    from PIL import Image

    paths, names = [folder / f"{name}.png" for name in COLOURS], list(COLOURS)
    for path, colour in zip(paths, COLOURS.values(), strict=True):
        Image.new("RGB", (8, 8), colour).save(path)
    images = xmr.Items(
        xmr.IMAGE, paths, names, metadata={"split": ["train", "train", "test", "test"]}, labels=np.eye(4)
    )
    texts = xmr.Items(
        xmr.TEXT,
        [f"{what} {name} thing" for name in names for what in ("a", "one")],
        [f"{name}#{i}" for name in names for i in range(2)],
        metadata={"split": ["train"] * 4 + ["test"] * 4},
        labels=np.repeat(np.eye(4), 2, axis=0),
    )
    return xmr.Pairs(images, texts, np.array([[i // 2, i] for i in range(8)]), names, "colours")


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The toy plugin installed, for this process and for those it starts."""
    with toy_installed(monkeypatch):
        yield


@pytest.fixture
def pictures(pairs: xmr.Pairs) -> list[Path]:
    """Four files: red, green, blue, white."""
    return list(pairs.images.data)


@pytest.fixture
def pairs(tmp_path: Path) -> xmr.Pairs:
    """Four images, two texts each; one label a colour; red and green are for training."""
    return colour_pairs(tmp_path)
