from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_folders import noise
from PIL import Image

from trainables import image_files
from trainables.errors import DataError
from trainables.image_files import SUFFIXES, read_image


def written(path: Path, image: Image.Image | np.ndarray, **options: Any) -> Path:
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(path, **options)
    return path


def pixel_of(path: Path, image: Image.Image, **options: Any) -> list[int]:
    """The colour of an image of one colour once it is read."""
    pixels = read_image(written(path, image, **options), 8)
    assert pixels.shape == (3, 8, 8) and pixels.dtype == np.uint8
    assert (pixels == pixels[:, :1, :1]).all()
    return pixels[:, 0, 0].tolist()


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".PNG"])
def test_an_image_of_the_wanted_size_keeps_its_bytes(tmp_path: Path, suffix: str) -> None:
    pixels = noise(16, 16)
    got = read_image(written(tmp_path / f"a{suffix}", pixels, lossless=True), 16)
    assert np.array_equal(got, pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_suffix_is_read(tmp_path: Path, suffix: str) -> None:
    assert pixel_of(tmp_path / f"a{suffix}", Image.new("RGB", (9, 9), (128, 128, 128))) == [128] * 3


@pytest.mark.parametrize(("height", "width"), [(24, 40), (40, 24)])
def test_the_shorter_side_is_resized_and_the_middle_taken(
    tmp_path: Path, height: int, width: int
) -> None:
    pixels = noise(height, width)
    resized = Image.fromarray(pixels).resize((width // 2, height // 2), Image.Resampling.BICUBIC)
    top, left = height // 4 - 6, width // 4 - 6
    expected = np.asarray(resized)[top : top + 12, left : left + 12]
    got = read_image(written(tmp_path / "a.png", pixels), 12)
    # Pillow rounds after each direction, of which this does the other one first.
    assert np.abs(got.astype(int) - expected.transpose(2, 0, 1)).max() <= 1


def test_making_it_smaller_averages_over_all_pixels(tmp_path: Path) -> None:
    board = np.indices((64, 64)).sum(0) % 2 * 255
    got = read_image(written(tmp_path / "a.png", board.astype(np.uint8)), 8)
    assert int(got.min()) >= 126 and int(got.max()) <= 129


def test_an_image_of_one_pixel_is_made_larger(tmp_path: Path) -> None:
    assert pixel_of(tmp_path / "a.png", Image.new("RGB", (1, 1), (1, 2, 3))) == [1, 2, 3]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("L", (8, 8), 77), [77, 77, 77]),
        (Image.new("1", (8, 8), 1), [255, 255, 255]),
        (Image.fromarray(np.full((8, 8), 77 * 256 + 255, np.uint16)), [77, 77, 77]),
        (Image.new("RGB", (8, 8), (1, 2, 3)).convert("P", palette=Image.Palette.ADAPTIVE), [1, 2, 3]),
        (Image.new("RGBA", (8, 8), (1, 2, 3, 255)), [1, 2, 3]),
        (Image.new("RGBA", (8, 8), (1, 2, 3, 0)), [255, 255, 255]),
        (Image.new("RGBA", (8, 8), (0, 100, 200, 51)), [204, 224, 244]),
        (Image.new("LA", (8, 8), (0, 51)), [204, 204, 204]),
    ],
    ids=["grey", "1 bit", "16 bits", "palette", "opaque", "transparent", "translucent", "grey alpha"],
)
def test_every_mode_becomes_rgb(tmp_path: Path, image: Image.Image, expected: list[int]) -> None:
    assert pixel_of(tmp_path / "a.png", image) == expected


def test_a_transparent_colour_of_a_palette_shows_white(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([1, 2, 3])
    assert pixel_of(tmp_path / "a.png", image, transparency=0) == [255, 255, 255]


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    red, green, blue = pixel_of(tmp_path / "a.jpg", image)
    assert red > 240 and green < 15 and blue < 15


def test_an_image_is_turned_as_its_exif_data_say(tmp_path: Path) -> None:
    pixels = noise(8, 8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    got = read_image(written(tmp_path / "a.png", pixels, exif=exif), 8)
    assert np.array_equal(got, np.rot90(pixels, -1).transpose(2, 0, 1))


def test_broken_exif_data_are_no_fault(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8), (9, 9, 9))
    broken = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x02\0"
    assert pixel_of(tmp_path / "a.jpg", image, exif=broken) == [9, 9, 9]


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[: len(content) * 2 // 3],
    "head only": lambda content: content[:60],
    "flipped": flipped,
}


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [(s, d) for s in SUFFIXES for d in DAMAGES if d != "flipped" or s == ".png"],
)
def test_a_damaged_image_is_refused_by_its_name(tmp_path: Path, suffix: str, damage: str) -> None:
    path = written(tmp_path / f"a{suffix}", noise(32, 32))
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(
        DataError, match=rf"^data\.source: (the image )?{path} is (damaged|not recognised)"
    ):
        read_image(path, 8)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"GIF89a"])
def test_what_is_no_image_is_refused_by_its_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(
        DataError, match=rf"{tmp_path}/a.jpg is not recognised as PNG, JPEG, WEBP or BMP; copy"
    ):
        read_image(tmp_path / "a.jpg", 8)


def test_another_format_under_an_images_name_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "a.gif", noise(8, 8)).rename(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png is not recognised as PNG"):
        read_image(tmp_path / "a.png", 8)


def test_an_absent_file_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "absent.png")
    with pytest.raises(DataError, match=r"a\.png is damaged: .*No such file"):
        read_image(tmp_path / "a.png", 8)


def png_of_zeros(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("side", [10_001, 13_000, 60_000])
def test_a_decompression_bomb_is_refused_undecoded(tmp_path: Path, side: int) -> None:
    (tmp_path / "a.png").write_bytes(png_of_zeros(side, side))
    with pytest.raises(DataError, match=r"a\.png has more than 100,000,000 pixels"):
        read_image(tmp_path / "a.png", 8)


def test_just_as_many_pixels_as_allowed_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_files, "MAX_PIXELS", 64)
    assert pixel_of(tmp_path / "a.png", Image.new("RGB", (8, 8), (1, 2, 3))) == [1, 2, 3]
    with pytest.raises(DataError, match="has more than 64 pixels"):
        read_image(written(tmp_path / "b.png", noise(5, 13)), 8)
