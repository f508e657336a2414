"""Images as RGB: decoding with Pillow, by threads, and saying which cannot be read.

An image is a path, the bytes of a file, a PIL image, or an array (h, w), (h, w, 3) or (h, w, 4) of uint8. Whatever
its mode, it comes out as upright RGB: transparent parts on white, 16 bits as 8, turned as its EXIF says.
"""

from __future__ import annotations

import io
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import DataError
from xmr_core.types import Items

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["ImageLike", "Images", "check_images", "decode_image", "decode_images", "unreadable"]

ImageLike: TypeAlias = "str | Path | bytes | bytearray | memoryview | Image.Image | NDArray[np.uint8]"
Images: TypeAlias = "ImageLike | Sequence[ImageLike]"
T = TypeVar("T")
AHEAD = 32  # images decoded before they are asked for
FORMATS = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "QOI", "TGA", "TIFF", "WEBP")
# others are refused: Pillow would start Ghostscript for an EPS file, whatever its name ends in
LARGEST = 178_956_970  # pixels of an image, half a gigabyte as RGB; what is larger is refused by its header
ORIENTATION = 0x0112  # the EXIF tag of how the camera was held
EXIF = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")  # where Pillow keeps it
TRANSPARENT = {"LA", "La", "PA", "RGBA", "RGBa"}  # Pillow's modes with an alpha channel
NAMED = 10  # images an error message names


def decode_image(item: object, at_least: int | None = None) -> Image.Image:
    """The image as upright RGB; what was given is left as it is.

    `at_least` lets a JPEG be decoded at a fraction of its size, both sides that long or longer: several times quicker
    for photographs. Raises DataError saying what is wrong with it.
    """
    try:
        image = _opened(item, at_least)
        if 0 in image.size:
            raise DataError("an image without pixels")
        image.load()
        return _rgb(_upright(image))
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError("no such file") from None
    except Exception as error:  # Pillow's decoders raise anything from OSError to struct.error on broken files
        raise DataError(_reason(error)) from error


def decode_images(
    items: Items,
    use: Callable[[Image.Image], T],
    at_least: int | None = None,
    prepare: Callable[[], None] | None = None,
) -> Iterator[T]:
    """`use(image)` of each item in order, computed by threads (one a core) a little ahead of whoever consumes it.

    `prepare` is called once in each thread before its first image. Raises DataError after the last good one, with
    the keys of all that cannot be read.
    """
    faults: dict[str, str] = {}
    results = _ahead(items.data, lambda item: use(decode_image(item, at_least)), prepare)
    for key, result in zip(items.keys, results, strict=True):
        if isinstance(result, DataError):
            faults[key] = str(result)
        else:
            yield result
    if faults:
        raise unreadable(faults)


def check_images(items: Items) -> dict[str, str]:
    """What is wrong with each image that cannot be read, by key; {} where all can.

    JPEGs are decoded at an eighth of their size: every byte is read, little is computed. Vectors, (n, d), pass.
    """
    if isinstance(items.data, np.ndarray) and items.data.ndim == 2:
        return {}
    outcomes = _ahead(items.data, lambda item: decode_image(item, at_least=1).size)
    return {
        key: str(outcome) for key, outcome in zip(items.keys, outcomes, strict=True) if isinstance(outcome, DataError)
    }


def unreadable(faults: dict[str, str]) -> DataError:
    """The error that names the images (key to reason) that cannot be read."""
    named = "; ".join(f"{key!r}: {reason}" for key, reason in list(faults.items())[:NAMED])
    more = f"; and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
    what = "1 image" if len(faults) == 1 else f"{len(faults)} images"
    return DataError(f"{what} cannot be read: {named}{more}", list(faults))


def _ahead(inputs: Any, work: Callable[[Any], T], prepare: Callable[[], None] | None = None) -> Iterator[T | DataError]:
    """`work` of each input in order, or the DataError it raised; at most AHEAD results wait."""

    def attempt(item: object) -> T | DataError:
        try:
            return work(item)
        except DataError as error:
            return error

    waiting: deque[Future[T | DataError]] = deque()
    with ThreadPoolExecutor(os.cpu_count() or 1, initializer=prepare) as pool:
        try:
            for item in inputs:
                waiting.append(pool.submit(attempt, item))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:  # the consumer stopped early
                future.cancel()


def _opened(item: object, at_least: int | None) -> Image.Image:
    from PIL import Image

    if isinstance(item, Image.Image):
        return item
    if isinstance(item, (str, os.PathLike)):
        path = Path(item)
        if path.exists() and not (path.is_file() or path.is_dir()):  # /dev/zero and pipes never end
            raise DataError("no regular file")
        item = path.read_bytes()  # no file stays open
    if isinstance(item, (bytes, bytearray, memoryview)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large, but within our own limit
            image = Image.open(io.BytesIO(item), formats=FORMATS)
        if image.width * image.height > LARGEST:
            raise DataError(f"{image.width} x {image.height} pixels; at most {LARGEST:,} are read")
        if at_least is not None:
            image.draft(None, (at_least, at_least))  # JPEG alone knows it; the others stay whole
        return image
    if isinstance(item, np.ndarray):
        return Image.fromarray(_pixels(item))
    raise DataError(f"expected a path, bytes, a PIL image or an array (h, w, 3) of uint8, got {type(item).__name__}")


def _pixels(array: NDArray[Any]) -> NDArray[np.uint8]:
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if not shaped or array.dtype != np.uint8 or not array.size:
        raise DataError(f"expected an array (h, w, 3) of uint8, got {array.dtype} {array.shape}")
    return np.ascontiguousarray(array)


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF says. EXIF that cannot be read turns nothing, and never costs the image."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    try:
        turn = turns.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # Pillow's EXIF parser raises anything on damaged tags
        return image
    if turn is None:
        return image
    turned = image.transpose(turn)
    for told in EXIF:  # else it would be turned again by whoever opens it next
        turned.info.pop(told, None)
    return turned


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode as RGB, transparent parts on white."""
    from PIL import Image

    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in TRANSPARENT or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    return image.convert("RGB")


def _eight_bits(grey: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey values of more than 8 bits as 0..255: whole numbers count to 65,535 where any is above 255."""
    values = np.nan_to_num(grey.astype(np.float64))
    if grey.dtype.kind != "f" and (grey.dtype == np.uint16 or values.max() > 255):
        values = values / 257
    rounded: NDArray[np.uint8] = values.clip(0, 255).round().astype(np.uint8)
    return rounded


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    if "cannot identify image file" in text:
        return "not an image in a known format"
    return f"more than {LARGEST:,} pixels" if "decompression bomb" in text else text
