"""The data of a training, images with labels or pairs of sentences: the one place that chooses."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor

from trainables import images, sentences
from trainables.config import TrialConfig

Dataset: TypeAlias = images.Dataset | sentences.SentenceDataset
"""What a training is trained, validated and tested on."""
Part: TypeAlias = images.Subset | sentences.SentencePairs
"""One of its three parts."""
Items: TypeAlias = Tensor | sentences.Sentences
"""What a model embeds: images (item, channel, h, w), or sentences."""


def load_dataset(config: TrialConfig, device: torch.device) -> Dataset:
    """Loads the data of a training once a process and keeps it on `device`.

    Raises:
        trainables.errors.DataError: it cannot be had, or has fewer items than asked for.
        trainables.errors.WeightsError: the tokeniser of its sentences cannot be had.
    """
    if config.task == "similarity":
        return sentences.load_sentences(config, device)
    return images.load_images(config.dataset, config.data, device)
