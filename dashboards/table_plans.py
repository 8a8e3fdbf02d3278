"""What rows and columns each of the paper's tables has, by the task of a sweep.

Called by `dashboards.paper_tables`, which fills them.
"""

from __future__ import annotations

from typing import NamedTuple

from trainables.reports import Task


class Measure(NamedTuple):
    """One row of a table.

    Attributes:
        metric: its name among the point's metrics, or the column of its truncations; of the untouched
            encoder's truncations the column after "untouched_".
        label: what the row is called; {pairs} is for what the scored pairs are called.
        unit: of the numbers shown.
        paper: its name in paper_results.yaml; None where the paper has no such number.
        split: whose queries.
        paper_row: whose number the paper's is, where it is not the head's own.
    """

    metric: str
    label: str
    unit: str
    paper: str | None
    split: str = "test"
    paper_row: str = ""


OF_UNTOUCHED = "untouched_"
"""What measures of the untouched encoder's truncations begin with."""
SCALES = {"%": 100.0, "x100": 100.0, "components": 1.0, "10^-3": 1000.0}
"""From a number as it is tracked to the unit that is shown."""
_MEASURES = (
    Measure("knn_accuracy", "5-NN accuracy, %", "%", "knn_accuracy"),
    Measure("knn_accuracy", "the same on validation, %", "%", None, split="validation"),
    Measure("recall_at_1", "Recall@1, %", "%", "recall_at_1"),
    Measure("recall_at_5", "Recall@5, %", "%", "recall_at_5"),
    Measure("d_eff", "d_eff", "components", "d_eff"),
    Measure("reconstruction_error", "reconstruction error, 10^-3", "10^-3", "reconstruction_error"),
)
_TRUNCATION_MEASURES = (
    Measure("knn_accuracy", "5-NN accuracy, %", "%", "knn_accuracy"),
    Measure("recall_dot_at_1", "Recall@1, dot, %", "%", "recall_at_1"),
    Measure("recall_cosine_at_1", "Recall@1, cosine, %", "%", None),
    Measure("recall_euclidean_at_1", "Recall@1, Euclidean, %", "%", None),
    Measure("recall_dot_at_5", "Recall@5, dot, %", "%", "recall_at_5"),
    Measure("recall_cosine_at_5", "Recall@5, cosine, %", "%", None),
    Measure("recall_euclidean_at_5", "Recall@5, Euclidean, %", "%", None),
    Measure("reconstruction_error", "reconstr. error, 10^-3", "10^-3", "reconstruction_error"),
)
_SIMILARITY_MEASURES = (
    Measure("spearman", "{pairs}Spearman, x100", "x100", "stsb_score"),
    Measure("spearman", "the same on validation, x100", "x100", None, split="validation"),
    Measure("d_eff", "d_eff", "components", "d_eff"),
    Measure("reconstruction_error", "reconstruction error, 10^-3", "10^-3", "reconstruction_error"),
    Measure(
        "untouched_spearman", "untouched encoder, x100", "x100", "stsb_score", paper_row="untouched"
    ),
    Measure("untouched_pca_spearman", "untouched + PCA to d_eff, x100", "x100", None),
)
_SIMILARITY_TRUNCATION_MEASURES = (
    Measure("spearman_cosine", "Spearman, cosine, x100", "x100", None),
    Measure("spearman_euclidean", "Spearman, Euclidean, x100", "x100", None),
    Measure("reconstruction_error", "reconstr. error, 10^-3", "10^-3", None),
    Measure("untouched_spearman_cosine", "untouched, cosine, x100", "x100", None),
    Measure("untouched_spearman_euclidean", "untouched, Euclidean, x100", "x100", None),
    Measure("untouched_reconstruction_error", "untouched, reconstr. error, 10^-3", "10^-3", None),
)


class Plan(NamedTuple):
    """What a table is to be.

    Attributes:
        number: what the paper calls it.
        what: its title.
        heads: head kinds, in their order.
        measures: its rows.
        is_cut: whether the rows are of embeddings cut to their first components, a section each size.
        optional: head kinds whose absence is not worth a word: the paper's table has none of them.
    """

    number: str
    what: str
    heads: tuple[str, ...]
    measures: tuple[Measure, ...]
    is_cut: bool = False
    optional: tuple[str, ...] = ()


_HEADS = ("none", "mlp", "monotonic")
PLANS: dict[Task, dict[str, Plan]] = {
    "classification": {
        "table_1a": Plan("Table 1a", "baseline and monotonic head", ("none", "monotonic"), _MEASURES),
        "table_2": Plan("Table 2", "the three heads", _HEADS, _MEASURES),
        "table_3": Plan(
            "Table 3",
            "embeddings cut to their first components",
            _HEADS,
            _TRUNCATION_MEASURES,
            is_cut=True,
        ),
    },
    "similarity": {
        "table_1b": Plan(
            "Table 1b",
            "baseline and monotonic head",
            _HEADS,
            _SIMILARITY_MEASURES,
            optional=("mlp",),
        ),
        "table_3": Plan(
            "Table 3",
            "embeddings and the untouched encoder's cut to their first components",
            _HEADS,
            _SIMILARITY_TRUNCATION_MEASURES,
            is_cut=True,
            optional=("mlp",),
        ),
    },
}
