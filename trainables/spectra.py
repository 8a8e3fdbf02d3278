"""Principal variances as a table, which pages draw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd


def spectrum_table(spectra: Mapping[str, Float[Tensor, " dim"]]) -> pd.DataFrame:
    """Columns stage, component (from 1), variance and cumulative_share, of falling variances a stage."""
    import pandas as pd

    tables = []
    for stage, variances in spectra.items():
        values = variances.cpu().numpy()
        share = values.cumsum() / max(values.sum(), np.finfo(np.float64).tiny)
        numbers = np.arange(1, len(values) + 1)
        columns = {"stage": stage, "component": numbers, "variance": values, "cumulative_share": share}
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)
