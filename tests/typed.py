"""A pytest plugin that checks the shapes in signatures and fields of dataclasses in all tests.

Only definitions with shapes are wrapped; mypy checks all other types. With the import hook of
jaxtyping, which wraps the whole package, the fit of a toy took twice as long.
"""

import ast
import inspect
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray, jaxtyped


def check_shapes(definition: Any) -> Any:
    """Check the shapes of a function's arguments and result, or of the fields of a dataclass."""
    return jaxtyped(definition, typechecker=beartype) if has_shapes(definition) else definition


def has_shapes(definition: Any) -> bool:
    parts = definition.__mro__ if isinstance(definition, type) else [definition]  # fields of bases
    hints = [hint for part in parts for hint in inspect.get_annotations(part).values()]
    return any(issubclass(part, AbstractArray) for hint in hints for part in _classes(hint))


def _classes(hint: Any) -> Iterator[type]:
    if isinstance(hint, type):
        yield hint
    for part in hint if isinstance(hint, list) else get_args(hint):
        yield from _classes(part)


class _Decorate(ast.NodeTransformer):
    """Decorate functions below their decorators, and classes above theirs."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.decorator_list.append(_decorator(node))
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.decorator_list.insert(0, _decorator(node))
        return self.generic_visit(node)


def _decorator(node: ast.stmt) -> ast.expr:
    return ast.copy_location(ast.Name(check_shapes.__name__, ast.Load()), node)


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        source = self.get_data(self.path)
        if b"jaxtyping" in source:
            vars(module)[check_shapes.__name__] = check_shapes
            exec(compile(_Decorate().visit(ast.parse(source)), self.path, "exec"), vars(module))
        else:
            super().exec_module(module)


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not f"{fullname}.".startswith("lightning_id."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(fullname, spec.loader.path)
        return spec


sys.meta_path.insert(0, _Finder())
