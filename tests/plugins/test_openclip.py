"""Models of open_clip, with random weights: it and torchvision are no part of the development install."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import xmr_core as xmr
from xmr_core.testing import conformance
from xmr_openclip import Openclip


def test_weights_or_their_absence_must_be_chosen() -> None:
    with pytest.raises(xmr.ConfigError, match="weights=None: must be the path of a checkpoint, or None with random"):
        Openclip()
    with pytest.raises(xmr.ConfigError, match=r"weights='a\.pt': must be"):
        Openclip(weights="a.pt", random=True)


@pytest.mark.parametrize("model", ["hf-hub:laion/CLIP", "../ViT", "local-dir:/tmp", ""])
def test_a_model_that_would_be_downloaded_is_refused(model: str) -> None:
    with pytest.raises(xmr.ConfigError, match="must be a name such as ViT-B-32"):
        Openclip(model=model, random=True)


def test_a_pretrained_tag_is_no_checkpoint() -> None:
    with pytest.raises(xmr.ConfigError, match="weights='laion2b_s34b_b79k': cannot be read: No such file"):
        Openclip(weights="laion2b_s34b_b79k").fingerprint()


open_clip = pytest.importorskip("open_clip", reason="open_clip and torchvision are not installed: xmr[openclip]")

MODEL = "ViT-S-32-alt"  # small

TestOpenclip = conformance("encoder", Openclip, config={"model": MODEL, "random": True})


def items(*texts: str) -> xmr.Items:
    return xmr.Items(xmr.TEXT, list(texts))


def test_vectors_are_those_of_open_clip(tmp_path: Path) -> None:
    import torch
    from PIL import Image

    torch.manual_seed(7)
    model, _, transform = open_clip.create_model_and_transforms(MODEL)
    model.eval()
    torch.save({"state_dict": {f"module.{key}": array for key, array in model.state_dict().items()}}, tmp_path / "a.pt")
    encoder = Openclip(model=MODEL, weights=str(tmp_path / "a.pt"))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8))
    with torch.inference_mode():
        images = model.encode_image(transform(image)[None], normalize=True).numpy()
        texts = model.encode_text(open_clip.get_tokenizer(MODEL)(["a dog"]), normalize=True).numpy()
    np.testing.assert_allclose(encoder.encode(xmr.Items(xmr.IMAGE, [image])).vectors, images, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(items("a dog")).vectors, texts, atol=1e-5)
    assert encoder.widths() == {"image": 256, "text": 256}


def test_safetensors_are_the_same_weights(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(open_clip.create_model(MODEL).state_dict(), tmp_path / "a.safetensors")
    assert Openclip(model=MODEL, weights=str(tmp_path / "a.safetensors")).encode(items("a dog")).vectors.shape == (
        1,
        256,
    )


def test_weights_that_do_not_fit_or_are_none_are_refused(tmp_path: Path) -> None:
    import torch

    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(b"no checkpoint")
    for name, message in {"a.pt": f"do not fit '{MODEL}'", "b.pt": "cannot be read"}.items():
        with pytest.raises(xmr.ConfigError, match=message):
            Openclip(model=MODEL, weights=str(tmp_path / name)).encode(items("a dog"))


def test_an_unknown_model_is_told_with_its_neighbours() -> None:
    with pytest.raises(xmr.ConfigError, match=r"'ViT-B-33': open_clip has none of that name; .*ViT-B-32"):
        Openclip(model="ViT-B-33", random=True).widths()


def test_a_model_whose_texts_need_a_download_is_refused() -> None:
    with pytest.raises(xmr.ConfigError, match="its texts need a download"):
        Openclip(model="ViT-B-16-SigLIP", random=True).widths()


@pytest.mark.parametrize("rest", ["flat", "itq(bits=16) >> hamming"])
def test_a_folder_of_images_is_searched_by_text(pictures: list[Path], tmp_path: Path, rest: str) -> None:
    with xmr.open(tmp_path / "a.duckdb", progress=False) as db:
        db.add(xmr.Items(xmr.IMAGE, pictures))
        db.fit(f"openclip({MODEL!r}, random=True) >> {rest}")
        assert len(db.search(text="a dog", k=4)) == 4
