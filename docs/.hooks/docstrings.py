"""Docstrings for mkdocstrings, which reads some of their markup differently."""

import re
from collections.abc import Iterator
from typing import Any

from griffe import Extension, Module, Object

_NAME = re.compile(r"(?<![`\w:])`([A-Za-z_][\w.]*)`(?!`)")


class Dialect(Extension):
    """Doctests as a section, displayed formulas as `formulas` finds them, names as links."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """Rewrite all docstrings of a package: Griffe calls it when all are read."""
        objects = list(_below(pkg))
        names = {path: path for path in (each.path for each in objects)}
        names |= {each.name: each.path for each in objects if each.is_class or each.is_function}
        for each in objects:
            if each.docstring is not None:
                each.docstring.value = _rewritten(each.docstring.value, names, each.path)


def _below(module: Object) -> Iterator[Object]:
    yield module
    for member in module.members.values():
        if not member.is_alias and isinstance(member, Object):
            yield from _below(member)


def _rewritten(text: str, names: dict[str, str], itself: str) -> str:
    text = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
    text = re.sub(r"^\.\. math:: (.*)$", r":math:`\1`", text, flags=re.MULTILINE)

    def link(found: re.Match[str]) -> str:
        path = names.get(found[1])
        if path is None or path == itself:
            return found[0]
        # Optional: not everything is on a page.
        return f'<autoref identifier="{path}" optional><code>{found[1]}</code></autoref>'

    return _NAME.sub(link, text)
