"""Pictures of every sort come out as upright RGB, and those that cannot be read are named."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import xmr_core as xmr
from xmr_core.images import check_images, decode_image, decode_images, unreadable

RED, WHITE = (255, 0, 0), (255, 255, 255)


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(width: int = 64, height: int = 48) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def corner(item: object) -> tuple[int, ...]:
    """The upper left pixel, read as RGB."""
    image = decode_image(item)
    assert image.mode == "RGB"
    pixel = image.getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return pixel


def test_a_path_bytes_an_image_and_an_array_are_the_same(tmp_path: Path) -> None:
    image = noise()
    path = tmp_path / "noise.png"
    image.save(path)
    for item in (path, str(path), path.read_bytes(), image, np.asarray(image)):
        np.testing.assert_array_equal(np.asarray(decode_image(item)), np.asarray(image))


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 100, (100, 100, 100)),
        ("1", 1, WHITE),
        ("LA", (0, 0), WHITE),
        ("RGBA", (255, 0, 0, 255), RED),
        ("RGBA", (255, 0, 0, 0), WHITE),
        ("RGBA", (0, 0, 0, 51), (204, 204, 204)),  # a fifth black on white
        ("I;16", 65535, WHITE),
        ("I;16", 257 * 7, (7, 7, 7)),
        ("I", 200, (200, 200, 200)),
        ("I", 65535, WHITE),
        ("F", 127.6, (128, 128, 128)),
        ("CMYK", (0, 255, 255, 0), RED),
        ("YCbCr", (255, 128, 128), WHITE),
        ("HSV", (0, 255, 255), RED),
    ],
)
def test_every_mode_becomes_rgb(mode: str, colour: Any, expected: tuple[int, ...]) -> None:
    assert corner(Image.new(mode, (3, 2), colour)) == expected


def test_a_palette_with_a_transparent_colour_lies_on_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    drawn = decode_image(file_of(image, transparency=0))
    assert [drawn.getpixel((x, 0)) for x in (0, 1)] == [WHITE, (0, 0, 255)]


def test_exif_turns_the_picture_upright() -> None:
    image = Image.new("RGB", (2, 1))
    image.putpixel((0, 0), RED)
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by a quarter, clockwise
    upright = decode_image(file_of(image, exif=turned))
    assert upright.size == (1, 2)
    assert upright.getpixel((0, 0)) == RED


def test_of_a_film_the_first_picture_is_taken() -> None:
    film = [Image.new("RGB", (4, 4), colour) for colour in (RED, WHITE)]
    assert corner(file_of(film[0], "GIF", save_all=True, append_images=film[1:])) == RED


def test_one_pixel_is_a_picture() -> None:
    assert decode_image(np.zeros((1, 1, 3), np.uint8)).size == (1, 1)


def test_what_is_given_is_left_as_it_is() -> None:
    image = Image.open(io.BytesIO(file_of(noise(800, 600), "JPEG")))
    decode_image(image, at_least=100)
    assert image.size == (800, 600)


def test_a_large_jpeg_is_decoded_at_a_fraction_no_smaller_than_asked() -> None:
    data = file_of(noise(800, 600), "JPEG")
    assert decode_image(data, at_least=150).size == (200, 150)
    assert decode_image(data, at_least=151).size == (400, 300)
    assert decode_image(data).size == (800, 600)


BAD = {
    "truncated JPEG": file_of(noise(), "JPEG")[:-200],
    "truncated PNG": file_of(noise())[:-200],
    "text": b"no picture at all",
    "nothing": b"",
    "missing file": Path("nowhere.jpg"),
    "a folder": Path(),
    "a number": 7,
    "None": None,
    "floats": np.zeros((4, 4, 3)),
    "two channels": np.zeros((4, 4, 2), np.uint8),
    "no pixels": np.zeros((0, 4, 3), np.uint8),
}


@pytest.mark.parametrize("item", BAD.values(), ids=BAD)
def test_what_is_no_picture_is_refused(item: object) -> None:
    with pytest.raises(xmr.DataError):
        decode_image(item)


def test_check_names_the_bad_ones_and_why() -> None:
    items = xmr.Items(xmr.IMAGE, [noise(), *BAD.values(), file_of(noise(), "JPEG")], ["good", *BAD, "good too"])
    reasons = check_images(items)
    assert list(reasons) == list(BAD)
    assert "truncated" in reasons["truncated JPEG"]
    assert reasons["text"] == "not an image in a known format"
    assert reasons["missing file"] == "no such file"
    assert reasons["floats"] == "expected an array (h, w, 3) of uint8, got float64 (4, 4, 3)"


def test_vectors_are_not_checked_as_pictures() -> None:
    assert check_images(xmr.Items(xmr.IMAGE, np.ones((2, 3)))) == {}


def test_decode_each_keeps_the_order_and_raises_after_the_last_good_one() -> None:
    widths = list(range(1, 100))
    data: list[object] = [np.zeros((1, width, 3), np.uint8) for width in widths]
    items = xmr.Items(xmr.IMAGE, [*data[:50], b"bad", *data[50:]], [f"k{i}" for i in range(100)])
    seen: list[int] = []
    with pytest.raises(xmr.DataError, match="1 image cannot be read: 'k50': not an image in a known format") as raised:
        seen.extend(decode_images(items, lambda picture: picture.width))
    assert seen == widths
    assert raised.value.keys == ("k50",)


def test_decode_each_may_be_left_early() -> None:
    items = xmr.Items(xmr.IMAGE, [np.zeros((1, 1, 3), np.uint8)] * 1000)
    used: list[int] = []
    each = decode_images(items, lambda picture: used.append(1))
    next(each)
    each.close()  # type: ignore[attr-defined]  # a generator, typed as what it promises
    assert len(used) < 100


def test_many_bad_pictures_are_counted_and_ten_are_named() -> None:
    error = unreadable({f"k{i}": "why" for i in range(12)})
    assert str(error).startswith("12 images cannot be read: 'k0': why; ")
    assert str(error).endswith("'k9': why; and 2 more")
    assert len(error.keys) == 12


def test_an_error_of_what_is_done_with_a_picture_is_not_taken_for_a_bad_picture() -> None:
    def divide(picture: Image.Image) -> float:
        return 1 / 0

    with pytest.raises(ZeroDivisionError):
        list(decode_images(xmr.Items(xmr.IMAGE, [noise()]), divide))


def rotated(tag: int, value: object) -> bytes:
    """A JPEG, wide, whose EXIF says that the camera was held upright, and something else."""
    image, exif = Image.new("RGB", (16, 8), RED), Image.Exif()
    exif[0x0112], exif[tag] = 6, value
    return file_of(image, "JPEG", exif=exif)


def test_the_turn_is_applied_whatever_else_the_exif_says() -> None:
    assert decode_image(rotated(0x010F, "a camera")).size == (8, 16)


def test_a_tag_of_the_wrong_type_costs_neither_the_image_nor_its_turn() -> None:
    jpeg = rotated(0x011A, 72.0)
    text_instead = jpeg.replace(b"\x01\x1a\x00\x05", b"\x01\x1a\x00\x02").replace(
        b"\x1a\x01\x05\x00", b"\x1a\x01\x02\x00"
    )
    assert text_instead != jpeg
    assert decode_image(text_instead).size == (8, 16)


def test_damaged_exif_turns_nothing() -> None:
    broken = rotated(0x010F, "a camera").replace(b"Exif\x00\x00", b"Exif\x00\x00\xff\xff", 1)
    assert 0 not in decode_image(broken).size


def test_an_image_that_was_turned_is_not_turned_again() -> None:
    once = decode_image(rotated(0x010F, "a camera"))
    assert decode_image(once).size == once.size


def test_a_format_that_would_start_another_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    with pytest.raises(xmr.DataError, match="not an image in a known format"):
        decode_image(tmp_path / "photo.jpg")


def test_an_image_too_large_is_refused_by_its_header() -> None:
    png = bytearray(file_of(Image.new("1", (8, 8))))
    png[16:24] = (30_000).to_bytes(4, "big") * 2
    png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
    with pytest.raises(xmr.DataError, match=r"more than 178,956,970 pixels|at most 178,956,970"):
        decode_image(bytes(png))
