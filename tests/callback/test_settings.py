import pytest

from lightning_id import IntrinsicDimensionCallback
from lightning_id.callback.settings import SMALLEST_CLASS, Settings
from lightning_id.recording.processes import SingleProcess
from tests.toys import Toy


def test_a_limit_is_of_gibibytes_on_the_device_and_on_the_host():
    assert Settings(memory_limit=1.5).options.limits == (3 * 2**29, 3 * 2**29)
    for free in (None, "auto"):
        assert Settings(memory_limit=free).options.limits == (None, None)
    with pytest.raises(ValueError, match="`memory_limit`: expected GiB above 0, got -1"):
        Settings(memory_limit=-1)


@pytest.mark.parametrize(("given", "least"), [(False, None), (True, SMALLEST_CLASS), (30, 30)])
def test_classes_are_off_of_a_hundred_or_of_as_many_as_given(given, least):
    assert Settings(per_class=given).options.smallest_class == least


def test_a_class_of_two_is_too_small():
    with pytest.raises(ValueError, match="`per_class`: expected at least 3, got 2; TwoNN needs"):
        Settings(per_class=2)


def test_a_named_last_hidden_layer_takes_the_place_of_the_pseudo_layer():
    named = IntrinsicDimensionCallback(["net.5", "last_hidden"], last_hidden="net.3")._settings
    assert named.select(Toy()) == ({"net.5": "net.5", "net.3": "net.3"}, "net.3")
    shown = IntrinsicDimensionCallback({"net.3": "third"}, last_hidden="net.3")._settings
    assert shown.select(Toy()) == ({"net.3": "third"}, "third")
    plain = IntrinsicDimensionCallback(["net.5"])._settings
    assert plain.select(Toy()) == ({"net.5": "net.5"}, None)


@pytest.mark.parametrize(
    ("layers", "may_project"), [("auto", True), (["!net.0"], True), (["net.5"], False)]
)
def test_without_a_limit_rows_take_free_memory_and_chosen_layers_are_not_projected(
    layers, may_project
):
    settings = IntrinsicDimensionCallback(layers)._settings
    options = settings.options_of(Toy(), SingleProcess())
    assert options.limits.host > 2**20
    assert options.may_project is may_project
    limited = IntrinsicDimensionCallback(layers, memory_limit=1)._settings
    options = limited.options_of(Toy(), SingleProcess())
    assert options.limits == (2**30, 2**30)
    assert not options.may_project
