"""Equations as MathML, which browsers draw themselves: the site needs neither a script nor a network for them."""

import html
from typing import Any

from docutils.nodes import SkipNode
from latex2mathml.converter import convert


def visit(writer: Any, node: Any) -> None:
    writer.body.append(f'<span class="math">{_mathml(node, "inline")}</span>')
    raise SkipNode


def visit_block(writer: Any, node: Any) -> None:
    writer.body.append(f'<div class="math">{_mathml(node, "block")}</div>')
    raise SkipNode


def _mathml(node: Any, display: str) -> str:
    text = node.astext()
    return convert(text, display=display).replace("<math ", f'<math aria-label="{html.escape(text)}" ', 1)


def setup(app: Any) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (visit, None), (visit_block, None))
    return {"parallel_read_safe": True}
