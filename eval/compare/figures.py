"""A comparison as figures for papers and slides, in PNG and PDF."""

from __future__ import annotations

import io

from etils import epath
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aloe_jax import files
from eval.benchmark.scores import Scale
from eval.compare.comparison import Comparison, is_ceiling
from eval.report.findings import metrics_on

# Distinguishable with any colour vision (Okabe and Ito), as on the pages.
COLOURS = ("#6a737d", "#0072b2", "#c04a00", "#00704f", "#b0568f", "#8a6d00", "#3f3fa0")
CEILING = "#1b1f24"
MARKERS = "osD^vP*"
DPI = 200
TITLES = {"shown": "What users had shown counts", "persona": "The whole persona counts"}
FORMATS = ("png", "pdf")


def write_figures(comparison: Comparison, out: epath.Path) -> list[epath.Path]:
    """Write `levels` (AL by turn with bands, a panel per scale) and `differences` (paired differences of the average
    with their intervals) as PNG and PDF into `out`, where there are any."""
    made = {"levels": levels_figure(comparison)} if comparison.scales else {}
    if comparison.contrasts:
        made["differences"] = differences_figure(comparison)
    return [_write(figure, out / f"{name}.{kind}", kind) for name, figure in made.items() for kind in FORMATS]


def _write(figure: Figure, path: epath.Path, kind: str) -> epath.Path:
    buffer = io.BytesIO()
    # Without a date, equal results give equal files.
    figure.savefig(buffer, format=kind, dpi=DPI, metadata={"CreationDate": None} if kind == "pdf" else {})
    with files.replacing(path) as target:
        target.write_bytes(buffer.getvalue())
    return path


def levels_figure(comparison: Comparison) -> Figure:
    """AL by turn of every result; the oracle's is a dashed line without a band."""
    figure = Figure(figsize=(5.2 * len(comparison.scales), 3.9), layout="constrained")
    panels = figure.subplots(1, len(comparison.scales), sharey=True, squeeze=False)[0]
    for axes, scale in zip(panels, comparison.scales, strict=True):
        _levels(axes, comparison, scale)
    panels[0].set_ylabel("alignment level")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _levels(axes: Axes, comparison: Comparison, scale: Scale) -> None:
    colours = iter(COLOURS * len(comparison.subjects))
    turns = 1
    for number, subject in enumerate(comparison.subjects):
        colour = CEILING if is_ceiling(subject) else next(colours)
        found = metrics_on(subject.result, scale)
        if found is None:
            continue
        turns = max(turns, found.turns)
        x = range(1, found.turns + 1)
        y = [float("nan") if level is None else level for level in found.AL]
        if is_ceiling(subject):
            axes.plot(x, y, color=colour, linestyle="--", linewidth=1, label=subject.label)
            continue
        axes.plot(x, y, color=colour, marker=MARKERS[number % len(MARKERS)], markersize=4, label=subject.label)
        low, high = ([float("nan") if pair is None else pair[side] for pair in found.ci.AL] for side in (0, 1))
        axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.set_title(TITLES[scale], fontsize=10)
    axes.set_xlabel("turn of the conversation")
    axes.set_xticks(range(1, turns + 1))
    axes.grid(axis="y", alpha=0.3)


def differences_figure(comparison: Comparison) -> Figure:
    """A row per pair and scale: the paired difference of the average as a dot, its interval as a line."""
    rows = [(each, each.found.average) for each in comparison.contrasts if each.found.average is not None]
    figure = Figure(figsize=(7.5, 1.2 + 0.32 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color="#888", linestyle=":", linewidth=1)
    for place, (each, found) in enumerate(rows):
        colour = COLOURS[1] if each.scale == "shown" else COLOURS[2]
        if found.interval is not None:
            axes.plot(found.interval, (place, place), color=colour, linewidth=2)
        axes.plot(found.estimate, place, "o", color=colour, markersize=5)
    axes.set_yticks(range(len(rows)), [f"{each.first} − {each.second}, {each.scale}" for each, _ in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("difference of the average alignment level, points")
    axes.grid(axis="x", alpha=0.3)
    return figure
