"""The rule by which an output becomes one row per sample: its options and their texts."""

import inspect

import pytest

from lightning_id.recording.rule import RowRule, fits, why_not


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"reduce": "median"}, "`reduce`: expected one of flatten, mean, .*, got 'median'"),
        ({"sample_dim": -1}, "`sample_dim`: expected at least 0"),
        ({"sample_dim": {"rnn": -1}}, "`sample_dim`: expected at least 0"),
        ({"max_features": 2}, "`max_features`: expected at least 4"),
        ({"rows_per_sample": 0}, "`rows_per_sample`: expected at least 1"),
        ({"rows_per_sample": "some"}, "`rows_per_sample`"),
        ({"rows_per_sample": {"fc": 1.5}}, "`rows_per_sample`"),
        ({"reduce": "mean", "positions": [1]}, "`positions`: expected reduce='tokens', got 'mean'"),
        ({"tokens_per_sample": 1}, "`tokens_per_sample`: expected reduce='tokens', got 'flatten'"),
        ({"reduce": "tokens", "positions": []}, "`positions`: expected places of tokens, got none"),
        ({"reduce": "tokens", "positions": [0.5]}, "`positions`"),
        ({"reduce": "tokens", "tokens_per_sample": 0}, "`tokens_per_sample`: expected at least 1"),
    ],
)
def test_an_option_out_of_its_range_is_refused(wrong, message):
    init = inspect.unwrap(RowRule.__init__)  # past the type checks that only the tests have
    with pytest.raises(ValueError, match=message):
        init(RowRule.__new__(RowRule), **wrong)


@pytest.mark.parametrize(
    "right",
    [
        {"sample_dim": 0, "max_features": 4},
        {"rows_per_sample": {"a": "all", "b": "first", "c": "chunks", "d": 1}},
        {"reduce": "tokens", "positions": [0, -1], "tokens_per_sample": 1},
    ],
)
def test_options_at_the_ends_of_their_ranges_are_taken(right):
    assert {name: getattr(RowRule(**right), name) for name in right} == right


def test_axes_are_for_all_layers_or_by_name():
    assert RowRule(sample_dim=1).axis_of("any") == 1
    assert RowRule(sample_dim={"rnn": 1}).axis_of("rnn") == 1
    assert RowRule(sample_dim={"rnn": 1}).axis_of("fc") is None
    assert RowRule().axis_of("rnn") is None


def test_rows_are_for_all_layers_or_by_name_and_else_one():
    assert RowRule(rows_per_sample=3).rows_of("any") == 3
    named = RowRule(rows_per_sample={"nodes": "all"})
    assert [named.rows_of(name) for name in ("nodes", "fc")] == ["all", 1]
    assert RowRule().rows_of("any") == 1


def test_tokens_and_all_rows_are_samples_of_their_own():
    named = RowRule(rows_per_sample={"nodes": "all"})
    assert [named.has_own_samples(name) for name in ("nodes", "fc")] == [True, False]
    assert RowRule("tokens").has_own_samples("any")
    assert not RowRule(rows_per_sample="first").has_own_samples("any")


@pytest.mark.parametrize(
    ("rows", "lengths"),
    [(1, [8]), (3, [24]), ("first", [8, 9, 24]), ("chunks", [1, 7, 8]), ("all", [1, 7, 8, 9, 24])],
)
def test_an_axis_fits_by_its_length(rows, lengths):
    assert [n for n in (1, 7, 8, 9, 24) if fits(n, 8, rows)] == lengths


@pytest.mark.parametrize(
    ("shape", "axis", "text"),
    [
        ((5, 4), 0, "axis 1 is as long: sample_dim takes it"),
        ((5, 4, 4), 0, "axis 1 or 2 is as long: sample_dim takes it"),
        ((4, 5, 3), 1, "axis 0 is as long: sample_dim takes it"),
        (
            (8, 3),
            0,
            "rows_per_sample=2 takes 2 rows one after another for a sample, 'first' the first 4"
            " rows (of concatenated views), 'all' every row for a sample of its own",
        ),
        (
            (9, 3),
            0,
            "rows_per_sample: 'first' takes one of the first rows for each sample, 'all' takes"
            " every row for a sample of its own",
        ),
        ((3, 5), 0, "rows_per_sample: 'all' takes every row for a sample of its own"),
    ],
    ids=["axis", "axes", "before", "views", "more", "fewer"],
)
def test_options_that_would_fit_are_named(shape, axis, text):
    assert why_not(shape, axis, 4) == text
