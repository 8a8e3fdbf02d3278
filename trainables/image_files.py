"""One image file to pixels of a wanted size, whatever its format, its mode and its orientation.

Called by `trainables.image_folder`.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from trainables.errors import DataError
from trainables.hub import brief

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
"""What the names of images end with, in small or in capital letters."""
MAX_PIXELS = 100_000_000
"""Of a file, whose RGB then takes 300 MB; a file of a few kB may say that it has more."""
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")


def read_image(path: Path, size: int) -> UInt8[np.ndarray, "3 size size"]:
    """Decodes an image to RGB, resizes its shorter side, and takes the centred square.

    It is turned as its EXIF data say. What is transparent shows white. Resized as Pillow does it,
    bicubic and, where it becomes smaller, over all pixels; so an image of this size keeps its bytes.

    Args:
        path: the file.
        size: pixels a side.

    Raises:
        DataError: it is damaged, no image, or has more than MAX_PIXELS.
    """
    try:
        with warnings.catch_warnings():
            # Of odd metadata, and of half of the pixels at which Pillow refuses.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise _too_large(path)
                upright = ImageOps.exif_transpose(image)
                pixels = np.asarray(ImageOps.fit(_to_rgb(upright), (size, size)))
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(path) from error
    except UnidentifiedImageError as error:
        raise DataError(
            f"data.source: {path} is not recognised as {_listed_formats()}; copy it anew, save it as "
            "one of these, or remove it"
        ) from error
    except Exception as error:  # What Pillow's decoders raise shares no base.
        raise DataError(
            f"data.source: the image {path} is damaged: {brief(error)}; copy it anew, or remove it"
        ) from error
    return pixels.transpose(2, 0, 1)


def _too_large(path: Path) -> DataError:
    return DataError(
        f"data.source: the image {path} has more than {MAX_PIXELS:,} pixels, which are not decoded; "
        "make it smaller, or remove it"
    )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of grey, of which Pillow would turn all above 255 white.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB")


def _listed_formats() -> str:
    return f"{', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}"
