"""An inspection as one HTML page that loads nothing."""

from __future__ import annotations

from pathlib import Path

from aloe_jax.inspect import wording
from aloe_jax.inspect.inspection import Inspection
from aloe_jax.inspect.layout import Fork, layout, runs
from aloe_jax.inspect.statistics_page import shown
from aloe_jax.inspect.tokens import visible
from aloe_jax.pages.jinja import templates
from aloe_jax.pages.scripted import SHARED


def page(inspection: Inspection) -> str:
    """The page as HTML text. The template escapes all text of the model and of the conversations."""
    here = templates(Path(__file__).parent, SHARED)
    here.filters["visible"] = visible
    here.tests["fork"] = lambda item: isinstance(item, Fork)
    replies = [{reply.node: reply for reply in view.replies} for view in inspection.conversations]
    return here.get_template("page.html").render(
        inspection=inspection,
        template=inspection.template,
        words=wording,
        statistics=shown(inspection.statistics) if inspection.statistics else None,
        conversations=[
            (view, layout(view, inspection.turns), known)
            for view, known in zip(inspection.conversations, replies, strict=True)
        ],
        hidden=inspection.total - len(inspection.conversations) if inspection.trees else 0,
        runs=runs,
    )
