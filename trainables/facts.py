"""What is known of datasets and encoders before any is loaded or built.

Read by `trainables.config`, whose settings it bounds, and by all who estimate or label without torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainables.reports import Task

DatasetName = Literal["cifar100", "cifar10", "digits", "image_folder", "snli", "sentence_pairs"]
EncoderKind = Literal["resnet34", "resnet8", "digits_cnn", "transformer"]


@dataclass(frozen=True)
class DatasetFacts:
    """What is known of a dataset without loading it.

    Attributes:
        task: what it is for: images with labels, or pairs of sentences.
        num_training_items: items trained on in one epoch, all classes; of pairs, their number; None
            where it is known only once the data is read.
        num_classes: labels are 0 to num_classes - 1; None as above, and where there are none.
        item_shape: of an image, (channel, h, w); None for sentences.
        source: whether it is bundled, has a usual source beside which `data.source` may name another,
            or is the user's own, which `data.source` must name.
    """

    task: Task
    num_training_items: int | None
    num_classes: int | None
    item_shape: tuple[int, int, int] | None
    source: Literal["bundled", "usual", "own"]


DATASET_FACTS: dict[DatasetName, DatasetFacts] = {
    "cifar100": DatasetFacts("classification", 45_000, 100, (3, 32, 32), "usual"),
    "cifar10": DatasetFacts("classification", 45_000, 10, (3, 32, 32), "usual"),
    "digits": DatasetFacts("classification", 1197, 10, (1, 8, 8), "bundled"),
    "image_folder": DatasetFacts("classification", None, None, (3, 32, 32), "own"),
    # The entailment pairs of the 550,152 rows of the hub's training split.
    "snli": DatasetFacts("similarity", 183_416, None, None, "usual"),
    "sentence_pairs": DatasetFacts("similarity", None, None, None, "own"),
}


@dataclass(frozen=True)
class EncoderFacts:
    """What is known of an encoder without building it.

    Attributes:
        dim: width d_enc of its output, where `encoder_dim` names no other; a head keeps it, so it is
            also the embedding's width.
        num_channels: of the images it takes; None where it takes sentences.
        has_imagenet_weights: whether torchvision has weights for it.
    """

    dim: int
    num_channels: int | None
    has_imagenet_weights: bool


ENCODER_FACTS: dict[EncoderKind, EncoderFacts] = {
    "resnet34": EncoderFacts(512, 3, has_imagenet_weights=True),
    "resnet8": EncoderFacts(128, 3, has_imagenet_weights=False),
    "digits_cnn": EncoderFacts(128, 1, has_imagenet_weights=False),
    "transformer": EncoderFacts(384, None, has_imagenet_weights=False),
}
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
"""The hub id of the paper's sentence encoder."""
