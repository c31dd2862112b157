"""The formulas of docstrings, in the built pages: TeX becomes MathML, which browsers draw alone."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

# What Markdown makes of :math:`...`.
_FORMULA = re.compile(r":math:<code>(.*?)</code>", re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    """Replace every formula of a page: MkDocs calls it with the page as HTML."""
    return _FORMULA.sub(lambda found: convert(html.unescape(found[1])), content)
