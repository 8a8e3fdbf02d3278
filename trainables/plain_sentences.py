"""What `trainables.bench_sentences` holds our training on sentences against; for measurement only.

A plain loop as scripts have it: each batch is tokenised when it is needed and padded to its longest
sentence, both sentences of all its pairs go through the transformer in one forward, and the loss is
looked at after every step. Model, mean pooling, loss, clipping and AdamW are those of our training.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from trainables.config import TrialConfig
from trainables.models import build_model
from trainables.plain_port import port_loss
from trainables.randomness import generator
from trainables.sentence_sources import RawPairs
from trainables.transformer import TransformerEncoder


class PlainSentences:
    """The plain loop's model, optimizer and passes over texts.

    Its weights are those that our own training of `config` starts from.

    Attributes:
        model: the transformer.

    Args:
        config: model, batch size, temperature, rates and seed; how it is executed is ignored.
        pairs: what it is trained on.
        device: where.
    """

    def __init__(self, config: TrialConfig, pairs: RawPairs, device: torch.device) -> None:
        embedder = build_model(config).to(device)
        assert isinstance(embedder.encoder, TransformerEncoder)
        assert embedder.encoder.tokenizer is not None
        self.model: Any = embedder.encoder.model
        self._tokenizer = embedder.encoder.tokenizer
        self._head = embedder.head
        self._config, self._pairs, self._device = config, pairs, device
        self._order = generator(config.seed, "order")  # the same batches as ours
        rates = config.optimizer
        self._optimizer = torch.optim.AdamW(
            [
                {"params": list(self.model.parameters()), "lr": rates.encoder_lr},
                {"params": list(self._head.parameters()), "lr": rates.head_lr},
            ],
            weight_decay=rates.weight_decay,
        )

    def parameters(self) -> list[nn.Parameter]:
        """Those of the transformer, then those of the head."""
        return [*self.model.parameters(), *self._head.parameters()]

    def train(self, mode: bool) -> None:
        """Turns dropout on or off."""
        self.model.train(mode)
        self._head.train(mode)

    def batches(self) -> list[Int64[Tensor, " pair"]]:
        """The pairs of an epoch's batches, in a new order."""
        order = torch.randperm(len(self._pairs.first), generator=self._order)
        return list(order.split(self._config.batch_size))

    def texts(self, rows: Int64[Tensor, " pair"]) -> list[str]:
        """The first sentences of some pairs, then the second ones."""
        sides = self._pairs.first, self._pairs.second
        return [side[row] for side in sides for row in rows.tolist()]

    def tokenize(self, texts: list[str]) -> Any:
        """Token ids and attention mask, padded to the longest text."""
        length = self._config.data.max_length
        return self._tokenizer(
            texts, padding=True, truncation=True, max_length=length, return_tensors="pt"
        )

    def forward(self, texts: list[str]) -> Float[Tensor, "text dim"]:
        """Unit-length embeddings."""
        inputs = self.tokenize(texts).to(self._device)
        hidden = self.model(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1).float()
        mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1e-9)
        return functional.normalize(self._head(mean), dim=1)

    def loss(self, rows: Int64[Tensor, " pair"]) -> Float[Tensor, ""]:
        """Of a batch of pairs, each of which is a class of its own."""
        labels = rows.repeat(2).to(self._device)
        return port_loss(self.forward(self.texts(rows)), labels, self._config.temperature)

    def train_step(self, rows: Int64[Tensor, " pair"]) -> float:
        """One optimizer step; the loss is read from the device."""
        self._optimizer.zero_grad()
        loss = self.loss(rows)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters(), self._config.optimizer.clip_norm)
        self._optimizer.step()
        return loss.item()

    def train_steps(self, number: int) -> None:
        """The first steps of an epoch."""
        self.train(True)
        for rows in self.batches()[:number]:
            self.train_step(rows)

    def train_epoch(self) -> float:
        """One pass over the pairs; the mean loss."""
        self.train(True)
        total = sum(self.train_step(rows) * len(rows) for rows in self.batches())
        return total / len(self._pairs.first)

    @torch.no_grad()
    def embed(self, texts: list[str], batch_size: int) -> Float[Tensor, "text dim"]:
        """Embeddings, on the CPU; batches are taken in the texts' order."""
        self.train(False)
        starts = range(0, len(texts), batch_size)
        return torch.cat([self.forward(texts[start : start + batch_size]).cpu() for start in starts])

    def embed_sorted(self, texts: list[str], batch_size: int) -> Float[Tensor, "text dim"]:
        """The same, batches taken by falling number of characters, as sentence-transformers does."""
        order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
        found = self.embed([texts[row] for row in order], batch_size)
        return found[torch.tensor(order).argsort()]
