"""What `trainables.bench` holds our training against; used for measurement only.

A port of what the paper's published loop does; written from its description. Images are Pillow
objects that torchvision augments one at a time in the workers of a DataLoader, training is float32
with a look at the loss after every step, and validation goes through numpy and scikit-learn. The
images lie decoded in memory, which the published loop need not have: it is timed kindly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import data as torch_data
from torchvision import transforms

from trainables.config import TrialConfig
from trainables.images import Dataset, Subset
from trainables.models import build_model
from trainables.reports import NUM_RECALLS, VARIANCE_SHARES

Transform = Callable[[Image.Image], Tensor]

_TO_NORMALIZED = transforms.Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
AUGMENTED = transforms.Compose(
    [
        transforms.TrivialAugmentWide(),
        transforms.ToTensor(),
        transforms.RandomErasing(p=0.25, scale=(0.02, 0.2), ratio=(0.3, 3.3), value=0),
        _TO_NORMALIZED,
    ]
)
UNAUGMENTED = transforms.Compose([transforms.ToTensor(), _TO_NORMALIZED])


class PillowImages(torch_data.Dataset):
    """Pillow images with their labels, transformed when they are asked for."""

    def __init__(self, images: list[Image.Image], labels: list[int], transform: Transform) -> None:
        self.images = images
        self.labels = labels
        self.transform = transform

    @classmethod
    def of(cls, subset: Subset, transform: Transform) -> PillowImages:
        """The same images as a subset's, which are uint8."""
        pixels = subset.items.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return cls([Image.fromarray(image) for image in pixels], subset.labels.tolist(), transform)

    def rows(self, start: int, stop: int, transform: Transform) -> PillowImages:
        """Some of the same images, under another transform."""
        return PillowImages(self.images[start:stop], self.labels[start:stop], transform)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


class PortEpoch(NamedTuple):
    """The mean loss of an epoch, its seconds, and those until its workers had the first batch ready."""

    loss: float
    time_s: float
    start_s: float

    def extrapolated_s(self, scale: float) -> float:
        """The seconds of an epoch `scale` times as long: its workers start once."""
        return self.start_s + scale * (self.time_s - self.start_s)


class PlainPort:
    """The port's data, model, optimizer and loops.

    Its weights are those that our own training of `config` starts from.

    Attributes:
        gallery: the training images, unaugmented.
        queries: the validation images.
        model: encoder and head.

    Args:
        config: architecture, batch size, temperature, rates and seed; how it is executed is ignored.
        data: where it trains is the device of this.
        num_workers: processes of each DataLoader; 0: this process loads.
    """

    def __init__(self, config: TrialConfig, data: Dataset, num_workers: int) -> None:
        self.gallery = PillowImages.of(data.training, UNAUGMENTED)
        self.queries = PillowImages.of(data.validation, UNAUGMENTED)
        self._config = config
        self._device = data.training.labels.device
        self._num_workers = num_workers
        model = build_model(config.model_copy(update={"channels_last": False}))
        self.model = nn.Sequential(model.encoder, model.head).to(self._device)
        rates = config.optimizer
        self._optimizer = torch.optim.AdamW(
            [
                {"params": list(model.encoder.parameters()), "lr": rates.encoder_lr},
                {"params": list(model.head.parameters()), "lr": rates.head_lr},
            ],
            weight_decay=rates.weight_decay,
        )

    def augmented(self, start: int, stop: int) -> PillowImages:
        """Some of the training images, as they are trained on."""
        return self.gallery.rows(start, stop, AUGMENTED)

    def batches(self, images: PillowImages, shuffle: bool = True) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass over images and labels, on the device."""
        for batch, labels in self._loader(images, shuffle):
            yield batch.to(self._device), labels.to(self._device)

    def _loader(self, images: PillowImages, shuffle: bool) -> torch_data.DataLoader:
        return torch_data.DataLoader(
            images,
            batch_size=self._config.batch_size,
            shuffle=shuffle,
            num_workers=self._num_workers,
            pin_memory=self._device.type == "cuda",
            generator=torch.Generator().manual_seed(self._config.seed),
        )

    def forward(self, images: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch dim"]:
        return functional.normalize(self.model(images), dim=1)

    def train_step(self, images: Float[Tensor, "batch 3 h w"], labels: Int[Tensor, " batch"]) -> float:
        """One optimizer step; the loss is read from the device."""
        self._optimizer.zero_grad()
        loss = port_loss(self.forward(images), labels, self._config.temperature)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self._config.optimizer.clip_norm)
        self._optimizer.step()
        return loss.item()

    def train_epoch(self, images: PillowImages) -> PortEpoch:
        """One pass over the images in a new order."""
        started = time.perf_counter()
        first_wait = None
        self.model.train()
        total = 0.0
        for batch, labels in self.batches(images):
            first_wait = first_wait or time.perf_counter() - started
            total += self.train_step(batch, labels) * len(labels)
        start_s = first_wait if first_wait and self._num_workers else 0.0
        return PortEpoch(total / len(images), time.perf_counter() - started, start_s)

    @torch.no_grad()
    def embed(self, images: PillowImages) -> np.ndarray:
        """(image, d_enc), unit length, in the images' order."""
        self.model.eval()
        batches = self.batches(images, shuffle=False)
        return np.concatenate([self.forward(batch).cpu().numpy() for batch, _ in batches])

    def validate(self) -> dict[str, float]:
        """The port's metrics of the model as it is."""
        gallery, queries = self.embed(self.gallery), self.embed(self.queries)
        labels = np.array(self.gallery.labels), np.array(self.queries.labels)
        return port_metrics(gallery, labels[0], queries, labels[1])


def port_loss(
    embeddings: Float[Tensor, "batch dim"], labels: Int[Tensor, " batch"], temperature: float
) -> Float[Tensor, ""]:
    """Eq. 1 as published: the row maximum taken off, an exponential, and a logarithm with 1e-9.

    Anchors without a positive count as 0 in the mean.
    """
    # Legend: A = anchors, B = the batch.
    sim_AB = embeddings @ embeddings.T / temperature
    sim_AB = sim_AB - sim_AB.max(dim=1, keepdim=True).values.detach()
    others_AB = 1 - torch.eye(len(labels), device=labels.device)
    positives_AB = (labels[:, None] == labels[None, :]).float() * others_AB
    norm_A1 = (sim_AB.exp() * others_AB).sum(dim=1, keepdim=True)
    log_prob_AB = sim_AB - torch.log(norm_A1 + 1e-9)
    num_positives_A = positives_AB.sum(dim=1).clamp(min=1)
    return -((positives_AB * log_prob_AB).sum(dim=1) / num_positives_A).mean()


def port_metrics(
    gallery: np.ndarray, gallery_labels: np.ndarray, queries: np.ndarray, labels: np.ndarray
) -> dict[str, float]:
    """5-NN accuracy, d_eff and reconstruction error by scikit-learn, and each Recall@k by itself.

    All queries are multiplied with all of the gallery anew for each k.

    Args:
        gallery: (item, dim), float32, unit length.
        gallery_labels: (item,)
        queries: (query, dim), float32, unit length.
        labels: (query,)
    """
    classifier = KNeighborsClassifier(n_neighbors=5).fit(gallery, gallery_labels)
    metrics = {"knn_accuracy": float((classifier.predict(queries) == labels).mean())}
    for k in range(1, NUM_RECALLS + 1):
        similarity = torch.from_numpy(queries) @ torch.from_numpy(gallery).T
        nearest = gallery_labels[similarity.topk(min(k, len(gallery)), dim=1).indices.numpy()]
        metrics[f"recall_at_{k}"] = float((nearest == labels[:, None]).any(axis=1).mean())
    held = np.cumsum(PCA().fit(gallery).explained_variance_ratio_)
    d_eff = min(int(np.searchsorted(held, VARIANCE_SHARES["d_eff"])) + 1, len(held))
    pca = PCA(n_components=d_eff).fit(gallery)
    residual = queries - pca.inverse_transform(pca.transform(queries))
    metrics["d_eff"] = float(d_eff)
    metrics["reconstruction_error"] = float(np.sqrt(np.mean(residual**2)))
    return metrics
