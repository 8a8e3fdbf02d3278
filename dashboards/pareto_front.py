"""The front as an interactive page, a picture and a CSV file.

`render` is handed to the tracker by `orchestrator.sweep`.
"""

from __future__ import annotations

from dashboards.front_info import info
from dashboards.front_page import to_html
from dashboards.front_picture import to_png
from orchestrator.front_table import FrontTable


def render(table: FrontTable) -> dict[str, bytes]:
    """The pages of a sweep: file name to content."""
    drawn = info(table)
    return {
        "pareto_front.html": to_html(drawn).encode(),
        "pareto_front.png": to_png(drawn),
        "pareto_front.csv": table.front.drop(columns=["on_front"]).to_csv(index=False).encode(),
    }
