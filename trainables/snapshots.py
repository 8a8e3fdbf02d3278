"""A snapshot: one model of one epoch on disk, enough to use it without the sweep that made it.

A folder with `snapshot.json` (configuration and report), `weights.safetensors`, of a transformer
`encoder` (its architecture and tokeniser) and, where wanted, `embeddings.safetensors`. It is whole or
absent, in a store too. Weights are tensors only, none is ever unpickled.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from trainables.config import TrialConfig
from trainables.metrics import Spectrum, reconstruction_errors, spectrum
from trainables.models import Embedder, build_model
from trainables.places import Place, is_url, local_copy
from trainables.reports import MANIFEST, EpochReport
from trainables.sentences import Sentences
from trainables.transformer import TransformerEncoder
from trainables.validation import Validation, embed
from trainables.whole_folder import whole_folder

WEIGHTS = "weights.safetensors"
EMBEDDINGS = "embeddings.safetensors"
DESCRIPTION = "encoder"
EMBEDDING_VARIANCE_SHARE = 0.999


@dataclass(frozen=True)
class Snapshot:
    """A snapshot read back.

    Attributes:
        config: the training it came from.
        report: the numbers of its epoch.
        model: the model, in evaluation mode.
    """

    config: TrialConfig
    report: EpochReport
    model: Embedder

    def sentences(self, texts: list[str]) -> Sentences:
        """Texts as the model takes them, in batches of any size; on the CPU."""
        encoder = self.model.encoder
        assert isinstance(encoder, TransformerEncoder) and encoder.tokenizer is not None
        return Sentences.of_texts(texts, encoder.tokenizer, self.config.data.max_length)


def write_snapshot(
    folder: Place, config: TrialConfig, validation: Validation, with_embeddings: bool
) -> None:
    """Writes the model of `validation` to `folder`, whole or not at all; replaces what was there.

    Raises:
        trainables.disk.DiskFullError: the disk is full; what was there stays.
        OSError: the store does not take it.
    """
    with whole_folder(folder) as partial:
        weights = {
            name: t.detach().cpu().contiguous() for name, t in validation.model.state_dict().items()
        }
        # Bytes rather than save_file: that makes files which only their owner may read.
        (partial / WEIGHTS).write_bytes(save(weights))
        if with_embeddings:
            (partial / EMBEDDINGS).write_bytes(save(compact_embeddings(validation)))
        manifest = {"config": config.model_dump(), "report": validation.report.to_dict()}
        if isinstance(validation.model.encoder, TransformerEncoder):
            validation.model.encoder.save_description(partial / DESCRIPTION)
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=2))


def read_snapshot(folder: str | Path) -> Snapshot:
    """Reads a snapshot, also one at a URL, on the CPU.

    Raises:
        ValueError: `folder` holds no snapshot, or its weights are not those of its configuration.
        OSError: the disk or the store does not give it.
    """
    if is_url(folder):
        try:
            with local_copy(folder, must_be_whole=True) as copy:
                return read_snapshot(copy)
        except FileNotFoundError:
            raise ValueError(f"{folder} is not a snapshot: it has no {MANIFEST}") from None
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        raise ValueError(f"{folder} is not a snapshot: it has no {MANIFEST}")
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        config = TrialConfig.model_validate(manifest["config"])
        report = EpochReport.from_dict(manifest["report"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / MANIFEST} is not a snapshot's manifest: {error!r}") from error
    model = build_model(config, with_initial_weights=False, description=folder / DESCRIPTION)
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"the weights in {folder} do not fit its configuration: {error}") from error
    return Snapshot(config, report, model.eval())


def compact_embeddings(validation: Validation) -> dict[str, Tensor]:
    """Embeddings of training, validation and test set as coordinates on a common PCA basis.

    The basis holds 99.9 % of the training embeddings' variance, so a set of N embeddings takes
    N x (d_eff at 99.9 %) numbers instead of N x d_enc. `restore_embeddings` inverts it.

    Returns:
        float32 `mean` (dim,), `basis` (dim, k), and for each part `PART_coordinates` (item, k), of
        images int64 `PART_labels` (item,), of sentences the rows of each pair, int64 `PART_first` and
        `PART_second` (pair,), and float64 `PART_scores` (pair,) where they have scores; and the loss:
        `PART_error`, the RMS residual per entry, and `PART_error_relative`, the squared residual as a
        share of the variance.
    """
    dataset = validation.dataset
    assert validation.gallery is not None and validation.queries is not None
    parts = {"train": dataset.training, "validation": dataset.validation, "test": dataset.test}
    test = embed(validation.model, dataset.test)
    features = {"train": validation.gallery, "validation": validation.queries, "test": test}
    embedded = {name: part.embedding for name, part in features.items()}
    components = spectrum(embedded["train"])
    k = components.num_components(EMBEDDING_VARIANCE_SHARE)
    tensors = {"mean": components.mean.float(), "basis": components.components[:, :k].float()}
    for name, vectors in embedded.items():
        errors = reconstruction_errors(vectors, components)
        tensors[f"{name}_coordinates"] = _coordinates(vectors, components, k)
        tensors |= {f"{name}_{what}": values for what, values in parts[name].annotations.items()}
        tensors[f"{name}_error"] = errors.absolute[k]
        tensors[f"{name}_error_relative"] = errors.relative[k]
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}


def _coordinates(
    vectors: Float[Tensor, "item dim"], components: Spectrum, k: int
) -> Float[Tensor, "item k"]:
    return ((vectors.double() - components.mean) @ components.components[:, :k]).float()


def restore_embeddings(
    path: str | Path, part: str
) -> tuple[Float[Tensor, "item dim"], dict[str, Tensor]]:
    """Embeddings of one part ("train", "validation", "test") from `compact_embeddings`, and what is
    known of its items: `labels`, or of sentences `first`, `second` and `scores`.
    """
    tensors = load_file(path)
    vectors = tensors["mean"] + tensors[f"{part}_coordinates"] @ tensors["basis"].T
    names = [f"{part}_{name}" for name in ("labels", "first", "second", "scores")]
    return vectors, {n.removeprefix(f"{part}_"): tensors[n] for n in names if n in tensors}
