"""Folders of small images, for the tests of `trainables.image_folder` and of what reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

Counts = dict[str, int]


def write_images(folder: Path, counts: Counts, size: tuple[int, int] = (8, 8)) -> Path:
    """Writes so many images into each subfolder, every image of one colour that no other has."""
    for place, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            colour = (place, number % 256, number // 256)
            Image.new("RGB", size, colour).save(folder / name / f"{number:04d}.png")
    return folder


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
