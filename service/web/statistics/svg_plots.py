"""Plots as SVG, made on the server. The numbers stand in a table beside each."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

_WIDTH = 640
_HEIGHT = 190
_BOTTOM = 26
_TOP = 28
_EDGE = 6


def plot_bars(
    name: str, title: str, labels: Sequence[str], values: Sequence[int | None]
) -> Markup:
    """Return a figure with a bar for each value; `name` makes its ids unique.

    A missing value has no bar. The description names the highest and the last one.
    """
    known = [value for value in values if value is not None]
    most = max([*known, 1])
    step = (_WIDTH - 2 * _EDGE) / max(1, len(values))
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
                f"{_EDGE + place * step:.1f}",
                f"{floor - height:.1f}",
                f"{max(1.0, step - 2):.1f}",
                f"{height:.1f}",
                label,
                f"{value:,}",
            )
        )
    if labels:
        parts.append(_text(_EDGE, _HEIGHT - 7, labels[0], "start"))
        parts.append(_text(_WIDTH - _EDGE, _HEIGHT - 7, labels[-1], "end"))
    return Markup(
        '<figure class="plotted"><figcaption>{title}</figcaption>'
        '<svg class="plot" viewBox="0 0 {w} {h}" role="img"'
        ' aria-labelledby="{n}-title {n}-desc"><title id="{n}-title">{title}</title>'
        '<desc id="{n}-desc">{desc}</desc>{parts}</svg></figure>'
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
            _EDGE, _WIDTH - _EDGE, y, y
        )
        for y in (floor, _TOP)
    ]
    return Markup("").join([*lines, _text(_EDGE, _TOP - 8, f"{most:,}", "start")])


def _text(x: int, y: int, text: str, anchor: str) -> Markup:
    return Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(
        x, y, anchor, escape(text)
    )
