import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError

import lightning_id
from lightning_id.functional.neighbors import Neighbors
from lightning_id.functional.pca import rounding_noise
from tests.typed import has_shapes


def modules() -> Iterator[Any]:
    for module in pkgutil.walk_packages(lightning_id.__path__, "lightning_id."):
        if not module.name.endswith("__main__"):
            try:
                yield importlib.import_module(module.name)
            except ImportError:  # an extra that is not installed
                continue


def functions(space: Any, inside: str) -> Iterator[Any]:
    """The functions that a module or one of its classes defines."""
    for member in list(vars(space).values()):
        if inspect.isclass(member) and member.__module__ == inside:
            yield from functions(member, inside)
        names = ("__func__", "fget", "func")  # of methods of the class, properties and cached ones
        function = next((f for name in names if (f := getattr(member, name, None))), member)
        if inspect.isfunction(function) and function.__module__ == inside:
            yield function


def test_each_function_of_the_package_with_shapes_is_wrapped():
    found = [
        (function, f"{module.__name__}.{function.__qualname__}")
        for module in modules()
        for function in functions(module, module.__name__)
        if has_shapes(function)
    ]
    unchecked = [name for function, name in found if not hasattr(function, "__wrapped__")]
    assert unchecked == []
    assert len(found) > 150  # 172 and the constructors of dataclasses when this was written


def test_an_argument_of_another_shape_raises():
    with pytest.raises(TypeCheckError, match="parameter 'eigenvalues'"):
        rounding_noise(torch.ones(3, 1), 4)


def test_fields_that_do_not_fit_each_other_raise():
    with pytest.raises(TypeCheckError, match="parameter 'indices'"):
        Neighbors(torch.zeros(3, 2), torch.zeros(4, 2, dtype=torch.int64))
