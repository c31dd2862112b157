"""One measurement of a callback, driven by the hooks of a real Trainer."""

import math

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_id import History, IntrinsicDimensionCallback, manifolds
from lightning_id.callback.failures import FailurePolicy
from lightning_id.callback.running import Comparisons, Moment, add_results
from lightning_id.functional import Estimate, change, twonn_dimension
from lightning_id.history import BEFORE_TRAINING, Validation
from lightning_id.recording.results import LayerResult
from tests.toys import Toy, count_hooks, loader, toy_data, trainer

ESTIMATORS = {"twonn": twonn_dimension}


class Driving(pl.Callback):
    """Begins a measurement at each validation, estimates at its end, and keeps the last."""

    def __init__(self, breaks=None, **options):
        self.owner = IntrinsicDimensionCallback(["input"], **options)
        self.history, self.moments, self.breaks = History(), [], breaks

    def on_validation_start(self, trainer, pl_module):
        self.owner._begin(trainer, pl_module, in_validation=True)
        self.running = self.owner._running
        self.moments.append(self.running.moment)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.running.pass_sets()
        self.running.begin_batch(None if self.breaks == batch_idx else batch)

    def on_validation_batch_end(
        self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0
    ):
        self.running.end_batch()

    def on_validation_epoch_end(self, trainer, pl_module):
        self.running.estimate(ESTIMATORS, self.history)
        self.metrics = self.running.metrics("mine_")
        self.running.cancel()


def fit(folder, driving):
    model = Toy()
    runner = trainer(folder, callbacks=[driving], num_sanity_val_steps=-1, max_epochs=1)
    runner.fit(model, loader(64, seed=3), loader(60, seed=1))
    assert count_hooks(model) == 0


def input_of(n, seed):
    return twonn_dimension(toy_data(n, seed).tensors[0].flatten(1)).value


def test_every_set_is_recorded_by_hooks_or_a_probe_and_estimated_at_its_moment(tmp_path):
    driving = Driving(data=("val", "train"))
    fit(tmp_path, driving)
    found = [
        (r["stage"], r["step"], r["data"], pytest.approx(r["value"]))
        for r in driving.history.records
        if r["layer"] == "input"
    ]
    val, train = input_of(60, 1), input_of(64, 3)
    assert found == [
        (BEFORE_TRAINING, 0, "val", val),
        (BEFORE_TRAINING, 0, "train", train),
        ("fit", 3, "val", val),
        ("fit", 3, "train", train),
    ]
    assert driving.metrics["mine_id_twonn/input"] == pytest.approx(val)
    assert driving.metrics["mine_train_id_twonn/input"] == pytest.approx(train)
    assert set(driving.running.plans) == {"val", "train"}
    assert driving.running.seconds > 0


def test_only_before_training_and_between_steps_the_loggers_are_called_directly(tmp_path):
    driving = Driving()
    fit(tmp_path, driving)
    assert driving.moments == [
        Moment(Validation(BEFORE_TRAINING, 0, 0), in_validation=True),
        Moment(Validation("fit", 0, 3), in_validation=True),
    ]
    assert [moment.logs_directly for moment in driving.moments] == [True, False]
    assert Moment(Validation("fit", 0, 3), in_validation=False).logs_directly


def test_a_set_that_fails_is_dropped_with_a_warning_and_the_next_measurement_is_whole(tmp_path):
    class Once(Driving):
        def on_validation_start(self, trainer, pl_module):
            super().on_validation_start(trainer, pl_module)
            self.breaks = 1 if trainer.sanity_checking else None

    driving = Once(per_class=10)  # a batch without labels cannot be recorded
    with pytest.warns(UserWarning, match="Callback could not record a batch"):
        fit(tmp_path, driving)
    assert {r["stage"] for r in driving.history.records} == {"fit"}


def test_cancel_may_come_at_any_point_and_again(tmp_path):
    class Cancelling(Driving):
        def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
            super().on_validation_batch_start(trainer, pl_module, batch, batch_idx)
            self.running.cancel()
            self.running.cancel()
            assert count_hooks(pl_module) == 0

    driving = Cancelling()
    fit(tmp_path, driving)
    assert driving.history.records == []
    assert driving.metrics == {}


# Results of layers, compared and added to a history: results written by hand, and no fit


CLOUDS = [manifolds.ball(60, d, ambient=12, seed=d) for d in (3, 8)]
FIRST, SECOND = Validation("fit", 0, 9), Validation("fit", 1, 19)


def layer(name, cloud, **fields):
    return LayerResult(
        name, None, 0, 0.5, 12, estimates={"twonn": twonn_dimension(cloud)}, **fields
    )


def add(results, history, at=FIRST, comparisons=None, on_error="warn", done=None):
    done = [] if done is None else done
    failures = FailurePolicy(on_error, "Callback")
    add_results(results, done, history, at, "val", "mean", comparisons, failures)
    return history.records[-len(done) :]


def test_a_record_has_the_place_of_the_measurement_and_the_estimate_of_the_layer():
    history, result = History(), layer("fc1", CLOUDS[0])
    (record,) = add([result], history)
    estimate = result.estimates["twonn"]
    expected = {"stage": "fit", "epoch": 0, "step": 9, "data": "val", "reduce": "mean"}
    expected |= {"layer": "fc1", "estimator": "twonn", "value": estimate.value}
    assert {name: record[name] for name in expected} == expected
    assert record["change"] is None


def test_a_layer_is_added_before_the_next_one_is_estimated():
    history, done, seen = History(), [], []

    def results():
        for name in ("a", "b"):
            seen.append((len(history.records), len(done)))
            yield layer(name, CLOUDS[0])

    add(results(), history, done=done)
    assert seen == [(0, 0), (1, 1)]
    assert [result.layer for result in done] == ["a", "b"]


def test_later_measurements_have_their_change_since_earlier_ones():
    history, comparisons = History(), Comparisons()
    add([layer("fc1", CLOUDS[0])], history, FIRST, comparisons)
    (record,) = add([layer("fc1", CLOUDS[1])], history, SECOND, comparisons)
    expected = change(*CLOUDS)
    assert record["change"] == record["change_previous"] == expected.value
    assert record["change_std_error"] == pytest.approx(expected.std_error, rel=1e-12)


def test_samples_that_change_with_every_pass_have_no_changes_and_are_reported_once():
    history, comparisons = History(), Comparisons()
    shuffled = ["the batches are shuffled"]
    for at in (FIRST, SECOND):
        both = [layer(name, CLOUDS[0], batch_notes=shuffled) for name in ("a", "b")]
        with pytest.warns(UserWarning, match="Callback: the batches are shuffled") as caught:
            records = add(both, history, at, comparisons)
        assert len(caught) == 1
    assert {record["change"] for record in records} == {None}
    assert {record["note"] for record in records} == set(shuffled)


def test_layers_are_compared_with_one_another_within_one_measurement():
    history = History()
    add([layer("a", CLOUDS[1])], history)
    earlier = dict(history.records[0])
    first, second = add([layer("b", CLOUDS[0]), layer("c", CLOUDS[1])], history, SECOND)
    assert history.records[0] == earlier
    assert first["from_input"] == first["from_input_std_error"] == 0
    assert second["from_input"] == change(*CLOUDS).value
    assert second["from_peak"] == 0


def failed():
    error = ZeroDivisionError("mine")
    estimates = {"twonn": Estimate(reason=repr(error))}
    return LayerResult("fc1", None, 0, 0.5, 12, estimates=estimates, errors={"twonn": error})


def test_an_estimator_that_failed_raises_after_its_record_if_asked_for():
    history = History()
    with pytest.raises(RuntimeError, match=r"twonn of layer 'fc1' failed: Zero") as caught:
        add([failed()], history, on_error="raise")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert history.records[0]["reason"] == "ZeroDivisionError('mine')"


def test_else_an_estimator_that_failed_stops_no_other_layer():
    history = History()
    add([failed(), layer("fc2", CLOUDS[0])], history)
    assert [record["layer"] for record in history.records] == ["fc1", "fc2"]


def test_spectra_are_kept_of_the_layers_that_have_one():
    history = History()
    add([layer("a", CLOUDS[0]), layer("b", CLOUDS[0], spectrum=torch.ones(3))], history)
    assert {name: len(x) for name, x in history.spectra[FIRST].items()} == {"b": 3}
    without = History()
    add([layer("a", CLOUDS[0])], without)
    assert without.spectra_by_set == {}


# The changes since the first and the previous measurement, in the history and the loggers


X = torch.randn(64, 12, generator=torch.Generator().manual_seed(0))
Y = torch.randn(64, 3, generator=torch.Generator().manual_seed(1))


class Network(pl.LightningModule):
    """Two layers that move at every step."""

    def __init__(self):
        super().__init__()
        pl.seed_everything(0)
        self.hidden = nn.Linear(12, 8)
        self.output = nn.Linear(8, 3)
        self.rows = []
        self.inputs = []

    def forward(self, x):
        return self.output(torch.tanh(self.hidden(x)))

    def training_step(self, batch):
        return nn.functional.mse_loss(self(batch[0]), batch[1])

    def validation_step(self, batch):
        weight, bias = self.hidden.weight, self.hidden.bias
        self.inputs.append(batch[0])
        self.rows.append(nn.functional.linear(batch[0], weight, bias).detach())
        self(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.3)


def compared_loader():
    return DataLoader(TensorDataset(X, Y), batch_size=64)


def compared_fit(folder, epochs=3, resume=None, layers=("hidden",), callback=None, **options):
    callback = callback or IntrinsicDimensionCallback(list(layers), n_samples=64, **options)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[callback],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        enable_checkpointing=False,
    )
    network = Network()
    trainer.fit(network, compared_loader(), compared_loader(), ckpt_path=resume)
    return trainer, callback, network


def records(callback, estimator="twonn"):
    found = [r for r in callback.history.records if r["layer"] == "hidden"]
    return [r for r in found if r["estimator"] == estimator]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return compared_fit(tmp_path_factory.mktemp("fit"))


def test_the_changes_are_of_the_same_rows(finished):
    _, callback, network = finished
    first, *later = records(callback)
    assert first["change"] is None
    before, after = network.rows[-2:]
    previous = change(before, after)
    assert later[-1]["change_previous"] == pytest.approx(previous.value, abs=1e-6)
    assert later[-1]["change_previous_std_error"] == pytest.approx(previous.std_error, rel=1e-4)
    assert later[-1]["change"] == pytest.approx(later[-1]["value"] - first["value"])
    assert later[-1]["change_std_error"] > 0


def test_the_change_from_the_first_measurement_is_logged_with_its_bar(finished):
    trainer, callback, _ = finished
    last = records(callback)[-1]
    metrics = trainer.callback_metrics
    assert float(metrics["id_twonn_change/hidden"]) == pytest.approx(last["change"], rel=1e-6)
    bar = float(metrics["id_twonn_change_se/hidden"])
    assert bar == pytest.approx(last["change_std_error"], rel=1e-6)


def test_estimators_without_error_bars_have_no_changes(finished):
    _, callback, _ = finished
    assert all(record["change"] is None for record in records(callback, "pca"))
    assert not any("pca_change" in key for key in callback.last_metrics)


def test_the_lowest_value_before_is_compared_with(finished):
    _, callback, network = finished
    values = [record["value"] for record in records(callback)]
    lowest = min(range(2), key=values.__getitem__)
    expected = change(network.rows[lowest], network.rows[2])
    last = records(callback)[-1]
    assert last["change_lowest"] == pytest.approx(expected.value, abs=1e-6)
    assert last["change_lowest_std_error"] == pytest.approx(expected.std_error, rel=1e-4)


def test_layers_of_one_measurement_are_compared_sample_by_sample(tmp_path):
    _, callback, network = compared_fit(tmp_path, epochs=1, layers=["input", "hidden", "output"])
    found = {r["layer"]: r for r in callback.history.records if r["estimator"] == "twonn"}
    expected = change(network.inputs[0], network.rows[0])
    assert found["hidden"]["from_input"] == pytest.approx(expected.value, abs=1e-6)
    assert found["hidden"]["from_input_std_error"] == pytest.approx(expected.std_error, rel=1e-4)
    assert found["input"]["from_input"] == found["input"]["from_input_std_error"] == 0
    top = max(found.values(), key=lambda record: record["value"])
    assert top["from_peak"] == top["from_peak_std_error"] == 0
    for record in found.values():
        assert record["from_peak"] == pytest.approx(record["value"] - top["value"])
    assert found["output"]["from_peak_std_error"] > 0


def test_a_resumed_run_goes_on(finished, tmp_path):
    trainer, _, _ = compared_fit(tmp_path, epochs=2)
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    _, resumed, _ = compared_fit(tmp_path, epochs=3, resume=tmp_path / "two.ckpt")
    _, whole, _ = finished
    columns = ("change", "change_std_error", "change_previous", "change_previous_std_error")
    columns += ("change_lowest", "change_lowest_std_error")
    last, expected = records(resumed)[-1], records(whole)[-1]
    assert [last[c] for c in columns] == [expected[c] for c in columns]
    assert all(math.isfinite(last[c]) for c in columns)
    torch.load(tmp_path / "two.ckpt", weights_only=True)


def test_another_model_is_not_compared_with_the_one_before(tmp_path):
    _, callback, _ = compared_fit(tmp_path, epochs=1)
    n_before = len(records(callback))
    compared_fit(tmp_path, epochs=1, callback=callback)
    assert records(callback)[n_before]["change"] is None
