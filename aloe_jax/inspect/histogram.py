"""A distribution as a small SVG of bars, coloured by the page's own style sheet (statistics.css)."""

from __future__ import annotations

from markupsafe import Markup, escape

from aloe_jax.inspect.distribution import Distribution
from aloe_jax.inspect.statistics_wording import summary

WIDTH, HEIGHT, FOOT, HEAD = 300, 110, 18, 4  # px; FOOT is left for the values below the bars
CHARACTER = 7.0  # mean width of a label's character, px
GAP = 2.0  # between bars, px


def histogram(found: Distribution) -> Markup:
    """The bars, each with its values and its count as a tooltip. Values stand below as many bars as have room."""
    bins, most, floor = len(found.counts), max(found.counts), HEIGHT - FOOT
    step = min(WIDTH / bins, 60.0)
    single = found.whole and found.edges[1] - found.edges[0] == 1
    every = _every([f"{edge:,g}" for edge in found.edges[:-1]], step)
    parts = [f'<line class="floor" x1="0" x2="{WIDTH}" y1="{floor}" y2="{floor}"/>']
    for index, (count, label) in enumerate(zip(found.counts, found.labels, strict=True)):
        tall = count / most * (floor - HEAD)
        x, height = index * step + GAP / 2, max(tall, 1.0) if count else 0.0
        parts.append(
            f'<rect x="{x:.1f}" y="{floor - height:.1f}" width="{step - GAP:.1f}" height="{height:.1f}">'
            f"<title>{escape(label)}: {count:,}</title></rect>"
        )
        if index % every == 0:
            # A value of its own stands below the middle of its bar, a lower edge below the left end.
            at, anchor = (x + (step - GAP) / 2, "middle") if single else (x, "start")
            parts.append(f'<text x="{at:.1f}" y="{HEIGHT - 4}" text-anchor="{anchor}">{found.edges[index]:,g}</text>')
    name = escape(f"{found.name}: {summary(found)}")
    return Markup(  # every text above went through escape or is a number
        f'<svg class="histogram" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}">{"".join(parts)}</svg>'
    )


def _every(labels: list[str], step: float) -> int:
    """The minimum distance, in bars, at which labels do not touch."""
    wide = max(map(len, labels)) * CHARACTER + 6
    return max(1, int(-(-wide // step)))
