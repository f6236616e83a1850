"""Equations as MathML, which browsers draw themselves: the site needs no script and no network."""

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.util import logging


def setup(app):
    """Offers the renderer "mathml" for `html_math_renderer`."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))


def inline(self, node):
    """Writes an equation within a line."""
    self.body.append(_mathml(node, as_block=False))
    raise nodes.SkipNode


def block(self, node):
    """Writes an equation on its own line, which scrolls where the screen is narrow."""
    self.body.append(self.starttag(node, "div", CLASS="math"))
    self.body.append(_mathml(node, as_block=True) + "</div>\n")
    raise nodes.SkipNode


def _mathml(node, *, as_block):
    """The MathML of an equation; warns where it has a command that docutils does not know."""
    tex = node.astext()
    try:
        return latex2mathml.tex2mathml(tex, as_block)
    except MathError as error:
        logging.getLogger(__name__).warning(f"{error} in {tex!r}", location=node)
        return ""
