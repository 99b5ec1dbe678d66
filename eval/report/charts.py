"""Charts as inline SVG, which the page's own style sheet colours in light and dark.

A series carries the name of a CSS class, which sets its colour, dash and marker fill. Every chart names its series at
the ends of their lines and shows its numbers as tooltips.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

CHARACTER = 7.4  # mean width of a 13 px label's character, px
LINE = 17.0  # minimum distance of two labels, px
BESIDE = 6.0  # distance up to which a label stands beside its point, px
INSET = 12.0  # from the sides of the plot area to the first and the last tick, px


@dataclass(frozen=True)
class Series:
    """A named line. `y` is None where it is undefined; `band` has (low, high) or None per point."""

    name: str
    css: str
    x: Sequence[float]
    y: Sequence[float | None]
    band: Sequence[tuple[float, float] | None] = ()
    marker: str = "circle"  # circle | square | diamond | none


@dataclass(frozen=True)
class Guide:
    """A horizontal line to compare the curve with."""

    y: float
    label: str


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At most `most` round numbers from at or below `low` to at or above `high`, evenly spaced by 1, 2 or 5 x 10^n."""
    if high <= low:
        low, high = low - 0.5, high + 0.5
    power = 10.0 ** math.floor(math.log10(high - low)) / 10
    for step in (power * factor for factor in (1, 2, 5, 10, 20, 50)):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first < most:
            break
    return [round(index * step, 12) for index in range(first, last + 1)]


def spread_labels(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move positions as little as needed so that neighbours are `gap` apart and all lie in [low, high] if they fit."""
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    placed = [min(max(positions[index], low), high) for index in order]
    for index in range(1, len(placed)):
        placed[index] = max(placed[index], placed[index - 1] + gap)
    ceiling = high
    for index in reversed(range(len(placed))):
        placed[index] = min(placed[index], ceiling)
        ceiling = placed[index] - gap
    result = [0.0] * len(positions)
    for index, position in zip(order, placed, strict=True):
        result[index] = position
    return result


def line_chart(
    series: Sequence[Series],
    title: str,
    x_label: str,
    size: tuple[int, int],
    y_ticks: Sequence[float],
    x_ticks: Sequence[float],
    guide: Guide | None = None,
) -> Markup:
    """An SVG of the given (width, height) in px at scale 1; the ticks bound the axes. Labels are escaped."""
    frame = _Frame.around(series, size, y_ticks, x_ticks)
    parts = [_axes(frame, x_label)]
    if guide is not None and y_ticks[0] <= guide.y <= y_ticks[-1]:
        y = frame.y(guide.y)
        parts.append(f'<line class="guide" x1="{frame.left}" x2="{frame.right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        text_y = y - 5 if y > frame.top + LINE else y + LINE  # below the line if that runs along the top
        parts.append(f'<text class="note" x="{frame.right - 4:.1f}" y="{text_y:.1f}">{escape(guide.label)}</text>')
    parts += [_band(frame, one) for one in series]
    parts += [_line(frame, one) for one in series]
    if len(series) > 1:
        parts.append(_end_labels(frame, series))
    width, height = size
    return Markup(  # every text above went through escape
        f'<svg class="chart" viewBox="0 0 {width} {height}" style="max-width:{width}px" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


@dataclass(frozen=True)
class _Frame:
    """The plot area in px and the data ranges that fill it."""

    left: float
    right: float
    top: float
    bottom: float
    x_ticks: Sequence[float]
    y_ticks: Sequence[float]

    @classmethod
    def around(
        cls, series: Sequence[Series], size: tuple[int, int], y_ticks: Sequence[float], x_ticks: Sequence[float]
    ) -> _Frame:
        """The frame with room for tick labels on the left and, with several series, for their names on the right."""
        left = 14 + CHARACTER * max(map(len, tick_labels(y_ticks)))
        right = 18 + CHARACTER * max(len(one.name) for one in series) if len(series) > 1 else 12
        return cls(left, size[0] - right, 12, size[1] - 44, x_ticks, y_ticks)

    def x(self, value: float) -> float:
        low, high = self.x_ticks[0], self.x_ticks[-1]
        return self.left + INSET + (value - low) / ((high - low) or 1) * (self.right - self.left - 2 * INSET)

    def y(self, value: float) -> float:
        low, high = self.y_ticks[0], self.y_ticks[-1]
        return self.bottom - (value - low) / ((high - low) or 1) * (self.bottom - self.top)


def number(value: float) -> str:
    """A tick or a value as text without needless digits; large numbers have thousands separators."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """The ticks as text, with as many digits as tell neighbours apart."""
    texts, digits = [number(tick) for tick in ticks], 3
    while len(set(texts)) < len(set(ticks)):
        digits += 1
        texts = [f"{tick:.{digits}f}".replace("-", "−") for tick in ticks]
    return texts


def _axes(frame: _Frame, x_label: str) -> str:
    parts = []
    for tick, label in zip(frame.y_ticks, tick_labels(frame.y_ticks), strict=True):
        y = frame.y(tick)
        parts.append(f'<line class="grid" x1="{frame.left}" x2="{frame.right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick y" x="{frame.left - 7:.1f}" y="{y + 4.5:.1f}">{label}</text>')
    for tick, label in zip(frame.x_ticks, tick_labels(frame.x_ticks), strict=True):
        x = frame.x(tick)
        parts.append(f'<text class="tick x" x="{x:.1f}" y="{frame.bottom + 18:.1f}">{label}</text>')
    middle = (frame.left + frame.right) / 2
    parts.append(f'<text class="axis" x="{middle:.1f}" y="{frame.bottom + 38:.1f}">{escape(x_label)}</text>')
    return "".join(parts)


def _runs(one: Series) -> list[list[int]]:
    """Indices of the points in runs, which end where a value is missing."""
    runs: list[list[int]] = [[]]
    for index, value in enumerate(one.y):
        if value is None:
            runs.append([])
        else:
            runs[-1].append(index)
    return [run for run in runs if run]


def _band(frame: _Frame, one: Series) -> str:
    parts = []
    for run in _runs(one):
        edges = [(frame.x(one.x[i]), one.band[i]) for i in run if i < len(one.band)]
        known = [(x, frame.y(pair[0]), frame.y(pair[1])) for x, pair in edges if pair is not None]
        upper = " ".join(f"{x:.1f},{high:.1f}" for x, _, high in known)
        lower = " ".join(f"{x:.1f},{low:.1f}" for x, low, _ in reversed(known))
        if known:
            parts.append(f'<polygon class="band {one.css}" points="{upper} {lower}"/>')
    return "".join(parts)


def _line(frame: _Frame, one: Series) -> str:
    parts = []
    for run in _runs(one):
        points = [(frame.x(one.x[i]), frame.y(one.y[i] or 0.0)) for i in run]
        parts.append(f'<polyline class="line {one.css}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>')
        if one.marker == "none":
            continue
        for i, (x, y) in zip(run, points, strict=True):
            pair = one.band[i] if i < len(one.band) else None
            interval = f" [{pair[0]:.2f}, {pair[1]:.2f}]" if pair is not None else ""
            tip = f"{one.name}, {number(one.x[i])}: {one.y[i]:.2f}{interval}"
            parts.append(f'<g class="marker {one.css}"><title>{escape(tip)}</title>{_marker(one.marker, x, y)}</g>')
    return "".join(parts)


def _marker(shape: str, x: float, y: float) -> str:
    if shape == "square":
        return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>'
    if shape == "diamond":
        return f'<path d="M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6z"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'


def _end_labels(frame: _Frame, series: Sequence[Series]) -> str:
    """The name of each line beside its last point, moved apart where names would overlap. A thin line leads to a name
    that does not stand beside its point."""
    ends = [(one, frame.x(one.x[last]), frame.y(one.y[last] or 0.0)) for one, last in _last_points(series)]
    placed = spread_labels([y for *_, y in ends], LINE, frame.top + 4, frame.bottom)
    parts = []
    for (one, x, y), at in zip(ends, placed, strict=True):
        if abs(at - y) > BESIDE or frame.right - x > 2 * INSET:
            line = f"{x + 5:.1f},{y:.1f} {frame.right + 4:.1f},{at:.1f}"
            parts.append(f'<polyline class="leader {one.css}" points="{line}"/>')
        parts.append(
            f'<text class="name {one.css}" x="{frame.right + 6:.1f}" y="{at + 4.5:.1f}">{escape(one.name)}</text>'
        )
    return "".join(parts)


def _last_points(series: Sequence[Series]) -> list[tuple[Series, int]]:
    """Each line with the index of its last point, without those that have none."""
    return [(one, runs[-1][-1]) for one in series if (runs := _runs(one))]


def interval_bar(value: float, interval: tuple[float, float], reach: float, css: str) -> Markup:
    """A small SVG with the interval as a bar, the value as a dot and zero as a line, from -reach to +reach."""
    x = {name: 4 + (number_ / reach + 1) / 2 * 152 for name, number_ in
         (("low", interval[0]), ("high", interval[1]), ("value", value))}  # fmt: skip
    return Markup(
        '<svg class="bar" viewBox="0 0 160 18" aria-hidden="true">'
        '<line class="zero" x1="80" x2="80" y1="1" y2="17"/>'
        f'<line class="line {css}" x1="{x["low"]:.1f}" x2="{x["high"]:.1f}" y1="9" y2="9"/>'
        f'<g class="marker {css}"><circle cx="{x["value"]:.1f}" cy="9" r="4.5"/></g></svg>'
    )
