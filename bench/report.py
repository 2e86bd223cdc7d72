"""Output of figures: a table for people, lines of JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.table import Table

from bench.metric import Metric


def to_line(metric: Metric) -> str:
    """Format a figure as a JSON object: bench, metric, value, unit, floor, ratio."""
    return json.dumps(
        {
            "bench": metric.bench,
            "metric": metric.metric,
            "value": _round(metric.value),
            "unit": metric.unit,
            "floor": _round(metric.floor),
            "ratio": _round(metric.ratio),
        }
    )


def to_table(metrics: Sequence[Metric]) -> Table:
    """Return a table of figures with their floors."""
    table = Table(box=None)
    table.add_column("bench")
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("unit")
    table.add_column("floor", justify="right")
    table.add_column("ratio", justify="right")
    for metric in metrics:
        table.add_row(
            metric.bench,
            metric.metric,
            _text(metric.value),
            metric.unit,
            _text(metric.floor),
            _text(metric.ratio),
        )
    return table


def _round(value: float | None) -> float | None:
    """Round to four digits, more than any run can resolve."""
    return None if value is None else float(f"{value:.4g}")


def _text(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
