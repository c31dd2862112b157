"""Formulas in the built pages: TeX becomes MathML, which browsers draw without a script.

Pages write `$...$` and `$$...$$`, as GitHub renders them; docstrings write `:math:`.
"""

import html
import re
from typing import Any

from latex2mathml.converter import convert

_CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
_DISPLAYED = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
_INLINE = re.compile(r"\$(\S(?:[^$\n]*?\S)?)\$")
# The HTML that Markdown makes of :math:`...` and :displaymath:`...`.
_FORMULA = re.compile(r":(display)?math:<code>(.*?)</code>", re.DOTALL)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Rewrite the dollars of a page, outside of code, as roles."""
    parts = _CODE.split(markdown)
    for place in range(0, len(parts), 2):  # the others are code
        text = _DISPLAYED.sub(lambda found: f":displaymath:`{found[1].strip()}`", parts[place])
        parts[place] = _INLINE.sub(r":math:`\1`", text)
    return "".join(parts)


def on_page_content(content: str, **_: Any) -> str:
    """Replace all formulas of a page, which MkDocs passes as HTML."""

    def drawn(found: re.Match[str]) -> str:
        return convert(html.unescape(found[2]), display="block" if found[1] else "inline")

    return _FORMULA.sub(drawn, content)
