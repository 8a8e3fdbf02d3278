"""The final evaluation of a model of sentences: how it ranks the test pairs, whole and cut down to its
first principal components, beside the encoder as it was before training, cut down alike.

Called by `trainables.evaluation`. Components are those of the unique training sentences, errors those of
the unique test sentences.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from jaxtyping import Float
from torch import Tensor

from trainables.metrics import (
    Spectrum,
    compactness,
    correlation_matrix,
    correlation_rms,
    rank_correlation,
    reconstruction_errors,
    spearman,
    spectrum,
)
from trainables.models import Features
from trainables.reports import SPECTRUM, TRUNCATION, TRUNCATION_CURVE, TRUNCATIONS, UNTOUCHED
from trainables.sentences import SentenceDataset, SentencePairs, pairs_spearman
from trainables.spectra import spectrum_table

if TYPE_CHECKING:
    import pandas as pd


class Truncation(NamedTuple):
    """What is left of embeddings on their first principal components.

    Attributes:
        components: number of components kept.
        spearman_cosine: Spearman correlation on the test pairs, ranked by the cosine of the centred
            coordinates.
        spearman_euclidean: ranked by their distance, which on all components ranks as the whole
            embeddings' cosine does.
        reconstruction_error: RMS residual of the test sentences' embeddings per entry.
        reconstruction_error_relative: squared residual as a share of their variance.
    """

    components: int
    spearman_cosine: float
    spearman_euclidean: float
    reconstruction_error: float
    reconstruction_error_relative: float


class CurvePoint(NamedTuple):
    """Spearman correlation on the test pairs on the first principal components.

    Attributes:
        components: number of components kept.
        num_pairs: all test pairs.
        spearman_dot: ranked by the inner product of the centred coordinates, `cosine` by their cosine,
            `euclidean` by their distance.
    """

    components: int
    num_pairs: int
    spearman_dot: float
    spearman_cosine: float
    spearman_euclidean: float


@dataclass(frozen=True)
class SimilarityEvaluation:
    """The numbers of one snapshot.

    Attributes:
        metrics: `test_NAME` for every metric of an evaluation; `test_untouched_spearman` is the
            untouched encoder's, `test_untouched_pca_spearman` the same of its first `test_d_eff`
            components (the better of cosine and distance).
        truncations: one for each of TRUNCATIONS below the embedding's width, and one for its d_eff.
        curve: correlations for every number of components, the whole width included.
        untouched: the numbers of `truncations` of the untouched encoder, and for its whole width.
        spectra: per stage (encoder, unnormalized, embedding, untouched) the principal variances.
        correlations: per stage the correlation matrix on the validation sentences.
    """

    metrics: dict[str, float]
    truncations: list[Truncation]
    curve: list[CurvePoint]
    untouched: list[Truncation]
    spectra: dict[str, Float[Tensor, " dim"]]
    correlations: dict[str, Float[Tensor, "dim dim"]]

    def tables(self) -> dict[str, pd.DataFrame]:
        """By file name."""
        import pandas as pd

        return {
            TRUNCATION: pd.DataFrame(self.truncations, columns=Truncation._fields),
            TRUNCATION_CURVE: pd.DataFrame(self.curve, columns=CurvePoint._fields),
            UNTOUCHED: pd.DataFrame(self.untouched, columns=Truncation._fields),
            SPECTRUM: spectrum_table(self.spectra),
        }


class Parts(NamedTuple):
    """A model's outputs for the sentences of the three parts of a dataset."""

    training: Features
    validation: Features
    test: Features


def evaluate_similarity(
    dataset: SentenceDataset, model: Parts, untouched: Parts
) -> SimilarityEvaluation:
    """Evaluates a trained model's outputs beside those of the encoder that it was trained from."""
    stages = {"encoder": "encoded", "unnormalized": "projected", "embedding": "embedding"}
    spectra = {name: spectrum(getattr(model.training, stage)) for name, stage in stages.items()}
    spectra["untouched"] = spectrum(untouched.training.embedding)
    correlations = {n: correlation_matrix(getattr(model.validation, s)) for n, s in stages.items()}
    correlations["untouched"] = correlation_matrix(untouched.validation.embedding)
    found = compactness(model.training.embedding, model.test.embedding, spectra["embedding"])
    d_eff = int(found["d_eff"])
    metrics = {
        "spearman": pairs_spearman(model.test.embedding, dataset.test),
        **found,
        "correlation_rms": correlation_rms(model.test.embedding),
        "untouched_spearman": pairs_spearman(untouched.test.embedding, dataset.test),
    }
    width = model.test.embedding.shape[1]
    sizes = sorted({d_eff, *(size for size in TRUNCATIONS if size < width)})
    of_untouched = truncations(
        untouched.test.embedding, dataset.test, spectra["untouched"], [*sizes, width]
    )
    alike = next(row for row in of_untouched if row.components == d_eff)
    metrics["untouched_pca_spearman"] = max(alike.spearman_cosine, alike.spearman_euclidean)
    return SimilarityEvaluation(
        metrics={f"test_{name}": value for name, value in metrics.items()},
        truncations=truncations(model.test.embedding, dataset.test, spectra["embedding"], sizes),
        curve=truncation_curve(model.test.embedding, dataset.test, spectra["embedding"]),
        untouched=of_untouched,
        spectra={name: found.variances for name, found in spectra.items()},
        correlations=correlations,
    )


def truncations(
    vectors: Float[Tensor, "item dim"],
    pairs: SentencePairs,
    components: Spectrum,
    sizes: Iterable[int],
) -> list[Truncation]:
    """What is left on the first k components of another set, for each k."""
    assert pairs.scores is not None
    errors = reconstruction_errors(vectors, components)
    coordinates = (vectors.double() - components.mean) @ components.components
    rows = []
    for k in dict.fromkeys(sizes):
        first, second = coordinates[pairs.first, :k], coordinates[pairs.second, :k]
        closeness = -(first - second).square().sum(dim=1)
        rows.append(
            Truncation(
                components=k,
                spearman_cosine=spearman(first, second, pairs.scores),
                spearman_euclidean=rank_correlation(closeness, pairs.scores),
                reconstruction_error=float(errors.absolute[k]),
                reconstruction_error_relative=float(errors.relative[k]),
            )
        )
    return rows


def truncation_curve(
    vectors: Float[Tensor, "item dim"], pairs: SentencePairs, components: Spectrum
) -> list[CurvePoint]:
    """Spearman correlations on the first k components of another set, for k from 1 to the width."""
    assert pairs.scores is not None
    coordinates = (vectors.double() - components.mean) @ components.components
    first, second = coordinates[pairs.first], coordinates[pairs.second]
    dots = (first * second).cumsum(dim=1)
    closeness = -(first - second).square().cumsum(dim=1)
    return [
        CurvePoint(
            components=k,
            num_pairs=len(pairs),
            spearman_dot=rank_correlation(dots[:, k - 1], pairs.scores),
            spearman_cosine=spearman(first[:, :k], second[:, :k], pairs.scores),
            spearman_euclidean=rank_correlation(closeness[:, k - 1], pairs.scores),
        )
        for k in range(1, coordinates.shape[1] + 1)
    ]
