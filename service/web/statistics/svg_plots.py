"""Plots as SVG, made on the server. The numbers stand in a table beside each."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

_WIDTH = 640
_HEIGHT = 180
_LEFT = 56
_BOTTOM = 24
_TOP = 12


def plot_bars(
    name: str, title: str, labels: Sequence[str], values: Sequence[int | None]
) -> Markup:
    """Return a bar for each value; `name` makes the ids of the page unique.

    A missing value has no bar. The description names the highest and the last one.
    """
    known = [value for value in values if value is not None]
    most = max([*known, 1])
    step = (_WIDTH - _LEFT) / max(1, len(values))
    floor = _HEIGHT - _BOTTOM
    parts = [_axis(most, floor)]
    for place, (label, value) in enumerate(zip(labels, values, strict=True)):
        if not value or value < 0:
            continue
        height = max(1.0, value / most * (floor - _TOP))
        parts.append(
            Markup(
                '<rect class="bar" x="{}" y="{}" width="{}" height="{}">'
                "<title>{}: {}</title></rect>"
            ).format(
                f"{_LEFT + place * step:.1f}",
                f"{floor - height:.1f}",
                f"{max(1.0, step - 2):.1f}",
                f"{height:.1f}",
                label,
                f"{value:,}",
            )
        )
    if labels:
        parts.append(_text(_LEFT, _HEIGHT - 6, labels[0], "start"))
        parts.append(_text(_WIDTH, _HEIGHT - 6, labels[-1], "end"))
    return Markup(
        '<svg class="plot" viewBox="0 0 {w} {h}" role="img"'
        ' aria-labelledby="{n}-title {n}-desc"><title id="{n}-title">{title}</title>'
        '<desc id="{n}-desc">{desc}</desc>{parts}</svg>'
    ).format(
        w=_WIDTH,
        h=_HEIGHT,
        n=name,
        title=title,
        desc=describe(labels, values),
        parts=Markup("").join(parts),
    )


def describe(labels: Sequence[str], values: Sequence[int | None]) -> str:
    """Return the highest, the last and the sum of the values in words."""
    known = [
        (value, label)
        for label, value in zip(labels, values, strict=True)
        if value is not None
    ]
    if not known:
        return "No numbers yet."
    top, where = max(known, key=lambda pair: pair[0])
    last, at = known[-1]
    return (
        f"{len(known)} values. Highest: {top:,} at {where}. Last: {last:,} at {at}."
        " All numbers are in the table below."
    )


def _axis(most: int, floor: int) -> Markup:
    lines = [
        Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
            _LEFT, _WIDTH, y, y
        )
        for y in (floor, _TOP)
    ]
    return Markup("").join(
        [
            *lines,
            _text(_LEFT - 6, floor + 4, "0", "end"),
            _text(_LEFT - 6, _TOP + 4, f"{most:,}", "end"),
        ]
    )


def _text(x: int, y: int, text: str, anchor: str) -> Markup:
    return Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(
        x, y, anchor, escape(text)
    )
