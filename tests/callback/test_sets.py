"""Several sample sets in one callback: each measured by itself, one history, keys with a prefix."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger

from lightning_id import AtSteps, History, IntrinsicDimensionCallback
from lightning_id.callback.settings import sample_sets
from lightning_id.history.queries import by_validation
from lightning_id.report import write_report
from tests.quick import draw_quickly
from tests.toys import Toy, count_hooks, loader, trainer, validated

LAYERS = ["input", "net.5"]


def fit(folder, *callbacks, **options):
    pl.seed_everything(5, verbose=False)
    runner = trainer(folder, callbacks=list(callbacks), num_sanity_val_steps=-1, **options)
    model = Toy()
    runner.fit(model, loader(64, seed=3, shuffle=True), loader(60, seed=1))
    assert count_hooks(model) == 0
    return model, runner


def records(callback, data):
    """Return the numbers of a set, without the columns that differ between instances."""
    return [
        {k: v for k, v in r.items() if k != "seconds"}
        for r in callback.history.records
        if r["data"] == data
    ]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    callback = IntrinsicDimensionCallback(LAYERS, n_samples=40, data=("val", "train"))
    folder = tmp_path_factory.mktemp("both")
    with pytest.MonkeyPatch.context() as patch:
        draw_quickly(patch)
        model, runner = fit(folder, callback, logger=CSVLogger(folder))
    return callback, model, runner


@pytest.mark.parametrize("data", ["val", "train"])
def test_each_set_has_the_numbers_of_an_instance_of_its_own(data, both, tmp_path):
    alone = IntrinsicDimensionCallback(LAYERS, n_samples=40, data=[data])
    fit(tmp_path, alone)
    assert len(records(alone, data)) == 3 * 3 * 2  # measurements, layers, estimators
    assert str(records(both[0], data)) == str(records(alone, data))


def test_keys_of_every_set_but_the_first_begin_with_its_name(both):
    callback, _, runner = both
    logged = {key: float(value) for key, value in runner.callback_metrics.items()}
    last = {
        (r["data"], r["layer"]): r["value"]
        for r in callback.history.records
        if r["estimator"] == "twonn"
    }
    assert logged["id_twonn/net.5"] == pytest.approx(last["val", "net.5"])
    assert logged["train_id_twonn/net.5"] == pytest.approx(last["train", "net.5"])
    assert {key.removeprefix("train_") for key in callback.last_metrics} == {
        key for key in callback.last_metrics if not key.startswith("train_")
    }


def test_one_file_holds_all_sets_and_no_metric_of_ours_is_one_of_the_user(both):
    callback, _, runner = both
    history = History.load(runner.log_dir)
    assert str(history.records) == str(callback.history.records)
    assert not [m["name"] for m in history.metrics if "id" in m["name"]]


def test_a_history_shows_one_set_at_a_time(both):
    history = both[0].history
    assert history.sample_sets() == ["val", "train"]
    assert {r["data"] for v in history.validations() for r in history.at(v, "twonn")} == {"val"}
    for name in ("val", "train"):
        of_set = history.of_set(name)
        assert {r["data"] for r in of_set.records} == {name}
        assert {r["data"] for rs in by_validation(of_set, "twonn").values() for r in rs} == {name}


def test_each_set_keeps_its_spectra_and_a_test_replaces_none(both):
    callback, _, _ = both
    first, *_, last = callback.history.validations()
    kept = {name: callback.history.of_set(name).spectra for name in ("val", "train")}
    assert [list(each) for each in kept.values()] == [[first, last]] * 2
    assert not torch.equal(kept["val"][last]["net.5"], kept["train"][last]["net.5"])
    callback.history.keep_spectra(("test", 2, 8), {"net.5": torch.ones(1)}, "test")
    assert list(callback.history.spectra) == [first, last]


def test_a_report_has_every_set(both, tmp_path, monkeypatch):
    draw_quickly(monkeypatch)
    page = write_report(both[2].log_dir, tmp_path / "report.md", "markdown").read_text()
    assert "(val)" in page
    assert "(train)" in page
    html = write_report(both[2].log_dir, tmp_path / "report.html").read_text()
    assert "Last hidden layer over training" in html


def test_figures_of_each_set_have_its_prefix_and_one_shows_the_last_hidden_layer_of_all(both):
    drawn = {path.name for path in Path(both[2].log_dir).rglob("*.png")}
    assert drawn == {
        "depth_profile.png",
        "heat_map.png",
        "last_hidden_over_time.png",
        "layers_over_time.png",
    }
    assert (Path(both[2].log_dir) / "train_id" / "depth_profile.png").exists()
    assert (Path(both[2].log_dir) / "id" / "last_hidden_over_time.png").exists()


def test_the_training_is_the_same_to_the_last_bit(both, tmp_path):
    plain, _ = fit(tmp_path)
    for name, value in plain.state_dict().items():
        assert torch.equal(both[1].state_dict()[name], value), name


def test_loaders_by_name_between_steps(tmp_path):
    sets = {"val": "val", "held_out": loader(80, seed=9)}
    callback = IntrinsicDimensionCallback(LAYERS, data=sets, schedule=AtSteps([0, 2]), n_samples=40)
    fit(tmp_path, callback)
    assert [r["data"] for r in callback.history.records] == (["val"] * 6 + ["held_out"] * 6) * 2
    assert "held_out_id/last_hidden" in callback.last_metrics


def test_outside_a_fit_the_running_set_is_measured(tmp_path):
    callback = IntrinsicDimensionCallback(LAYERS, data=("train", "val"), n_samples=40)
    runner = validated(tmp_path, callback, model=Toy(), data=loader(60, seed=1))
    assert {key.startswith("val_id") for key in callback.last_metrics} == {True}
    runner.test(Toy(), loader(60, seed=1), verbose=False)
    assert {key.startswith("id") for key in callback.last_metrics} == {True}
    assert list(dict.fromkeys(r["data"] for r in callback.history.records)) == ["val", "test"]


def test_a_set_that_fails_does_not_stop_the_other(tmp_path):
    callback = IntrinsicDimensionCallback(LAYERS, data={"val": "val", "bad": [None]}, n_samples=40)
    with pytest.warns(UserWarning, match="could not pass the samples"):
        fit(tmp_path, callback)
    assert {r["data"] for r in callback.history.records} == {"val"}
    assert len(callback.history.validations()) == 3


@pytest.mark.parametrize("probe", ["train", "loader"])
def test_probe_is_a_deprecated_spelling(probe, tmp_path):
    value = loader(50, seed=9) if probe == "loader" else probe
    with pytest.warns(FutureWarning, match=r"`probe` is deprecated .*; use data="):
        old = IntrinsicDimensionCallback(LAYERS, probe=value, n_samples=40)
    name = "probe" if probe == "loader" else probe
    new = IntrinsicDimensionCallback(LAYERS, data={name: value}, n_samples=40)
    fit(tmp_path, old)
    fit(tmp_path, new)
    assert str(records(old, name)) == str(records(new, name)) != "[]"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("val", "expected a list of 'val' and 'train', or names and loaders, got 'val'"),
        ((), "expected a list"),
        (("val", "val"), "expected every set once"),
        (("val", "test"), "expected a DataLoader, 'train' or 'val', got 'test'"),
        ({"a b": "val"}, "expected names of letters"),
        ({"test": loader()}, "expected another name than 'test'"),
        ({"mine": loader().dataset}, "makes one of a data set"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_data_that_names_no_sets_is_refused(data, message):
    with pytest.raises(ValueError, match=f"^`data`: .*{message}"):
        sample_sets(data)
