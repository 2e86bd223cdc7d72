"""The metrics of the code, read from its syntax: most need a database to be made."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_NAME = re.compile(r"bigworld_[a-z0-9_]+")
_KINDS = {
    "Counter": "counter",
    "CounterMetricFamily": "counter",
    "Gauge": "gauge",
    "Histogram": "histogram",
    "HistogramMetricFamily": "histogram",
}


@dataclass(frozen=True, slots=True)
class FoundMetric:
    """One metric: its name in /metrics, its type, labels and help."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


def find_metrics() -> list[FoundMetric]:
    """Return all metrics by name."""
    found = {
        metric.name: metric
        for path in sorted((ROOT / "service").rglob("*.py"))
        for metric in metrics_of(ast.parse(path.read_text()))
    }
    return [found[name] for name in sorted(found)]


def metrics_of(tree: ast.AST) -> Iterator[FoundMetric]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from read_metric(called_name(node), node.args, node.keywords)
        elif isinstance(node, ast.For) and isinstance(node.iter, ast.Tuple):
            calls = [each for each in ast.walk(node) if isinstance(each, ast.Call)]
            names = [called_name(call) for call in calls]
            kind = next((name for name in names if "MetricFamily" in name), "")
            for item in node.iter.elts:
                if isinstance(item, ast.Tuple):
                    yield from read_metric(kind, item.elts, [])


def called_name(call: ast.Call) -> str:
    function = call.func
    return function.id if isinstance(function, ast.Name) else ""


def read_metric(
    kind: str, arguments: list[ast.expr], keywords: list[ast.keyword]
) -> Iterator[FoundMetric]:
    texts = [a.value if isinstance(a, ast.Constant) else None for a in arguments]
    at = next((i for i, t in enumerate(texts[:2]) if _NAME.fullmatch(str(t))), None)
    if at is None or len(texts) < at + 2:
        return
    labels: tuple[str, ...] = ()
    last = arguments[at + 2 : at + 3]
    for node in [*last, *(k.value for k in keywords if k.arg == "labels")]:
        if isinstance(node, ast.Tuple):
            labels = tuple(str(e.value) for e in node.elts if hasattr(e, "value"))
        elif isinstance(node, ast.Constant) and str(node.value).isidentifier():
            labels = (str(node.value),)
    shown = _KINDS.get(kind, "gauge")
    name = str(texts[at])
    if shown == "counter" and not name.endswith("_total"):
        name += "_total"
    yield FoundMetric(name, shown, labels, str(texts[at + 1]))
