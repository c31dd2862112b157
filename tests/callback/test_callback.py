import csv
import math
import re

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch._dynamo.testing import CompileCounter

from lightning_id import AtSteps, EveryNValidations, History, IntrinsicDimensionCallback
from lightning_id.functional import Estimate, pca_dimension, twonn_dimension
from lightning_id.recording.modules import named_layers
from lightning_id.recording.samples import choose_samples
from tests.toys import Toy, count_hooks, fitted, loader, state_of, toy_data


def fit(folder, *callbacks, model=None, train=None, val=None, ckpt=None, seed=1, **kwargs):
    """Train a toy with the callbacks from a fixed seed; return trainer and model."""
    pl.seed_everything(seed, verbose=False)
    model = model() if isinstance(model, type) else model or Toy()  # a class: from the seed
    runner = fitted(
        folder,
        *callbacks,
        model=model,
        train=train or loader(shuffle=True),
        val=val or loader(60, seed=1),
        ckpt_path=ckpt,
        **kwargs,
    )
    return runner, model


def values(history, estimator="twonn"):
    return {r["layer"]: r["value"] for r in history.at(history.validations()[-1], estimator)}


def test_one_line_on_an_unmodified_module_logs_every_layer_and_the_summary(default_fit):
    logged = {key for key in default_fit.runner.callback_metrics if key.startswith("id")}
    layers = {"input", "net.3", "net.5", "last_hidden", "net.8"}
    assert logged == {
        *(f"id_{kind}/{layer}" for kind in ("twonn", "twonn_se", "pca") for layer in layers),
        *(f"id_twonn_{kind}/{layer}" for kind in ("change", "change_se") for layer in layers),
        *("id/last_hidden", "id/last_hidden_low", "id/last_hidden_high"),
        *("id/peak", "id/peak_depth", "id/peak_over_last"),
    }
    assert default_fit.callback.history.validations() == [
        ("before_training", 0, 0),
        ("fit", 0, 6),
        ("fit", 1, 13),
        ("fit", 2, 20),
    ]


def test_every_logged_number_is_that_of_functional_on_the_same_rows(tmp_path):
    callback = IntrinsicDimensionCallback(["input", "net.*", "last_hidden"], n_samples=40, seed=5)
    runner, model = fit(tmp_path, callback)
    x = toy_data(60, seed=1).tensors[0][choose_samples(60, 40, seed=5)]
    model.eval()
    measured = 0
    with torch.no_grad():
        for name, module in [("input", nn.Identity()), *named_layers(model.net).items()]:
            # A copy at once, because the next layer may work in place.
            x = module(x).clone()
            key = name if name == "input" else f"net.{name}"
            rows = x.flatten(1)
            expected = twonn_dimension(rows)
            assert runner.callback_metrics[f"id_twonn/{key}"] == pytest.approx(expected.value)
            assert runner.callback_metrics[f"id_twonn_se/{key}"] == pytest.approx(
                expected.std_error
            )
            assert runner.callback_metrics[f"id_pca/{key}"] == pca_dimension(rows).value
            measured += 1
    assert measured == 10
    assert callback.last_metrics["id/last_hidden"] == values(callback.history)["net.7"]


def test_the_training_is_the_same_to_the_last_bit_with_and_without(default_fit, tmp_path):
    runner, model = fit(tmp_path, max_epochs=3)
    plain, watched = state_of(model, runner), default_fit.state
    assert len(plain) == len(watched) > 10
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))


def test_the_input_is_the_same_to_the_last_digit_at_every_validation(default_fit):
    inputs = [r["value"] for r in default_fit.callback.history.records if r["layer"] == "input"]
    assert len(inputs) == 8  # four validations of two estimators
    assert len(set(inputs)) == 2


def test_a_whole_sanity_check_is_the_record_of_the_network_before_training(default_fit):
    history, fresh = default_fit.callback.history, default_fit.fresh.eval()
    rows = toy_data(60, seed=1).tensors[0][choose_samples(60, 40, seed=0)]
    before = history.at(("before_training", 0, 0), "twonn")[-1]
    assert before["layer"] == "net.8"
    with torch.no_grad():
        assert before["value"] == pytest.approx(twonn_dimension(fresh.net(rows)).value)


def test_a_sanity_check_of_two_batches_is_not_measured(tmp_path):
    callback = IntrinsicDimensionCallback()
    fit(tmp_path, callback, num_sanity_val_steps=2)
    assert [v[0] for v in callback.history.validations()] == ["fit", "fit"]


def test_numbers_are_in_the_row_of_the_accuracy_for_every_logger(default_fit):
    history = default_fit.callback.history
    with default_fit.table.open() as file:
        rows = [row for row in csv.DictReader(file) if row["val_acc"]]
    assert len(rows) == 3
    last = history.at(history.validations()[-1], "twonn")
    events = EventAccumulator(str(default_fit.board))
    events.Reload()
    for record in last:
        key = f"id_twonn/{record['layer']}"
        assert float(rows[-1][key]) == pytest.approx(record["value"], rel=1e-6)
        curve = events.Scalars(key)
        assert [point.step for point in curve] == [0, 6, 13, 20]  # before training, then as val_acc
        assert curve[-1].value == pytest.approx(record["value"], rel=1e-6)
    assert [point.step for point in events.Scalars("val_acc")] == [6, 13, 20]


def test_all_records_are_in_history_csv_of_the_run(default_fit):
    loaded = History.load(default_fit.board / "history.csv")
    records = default_fit.callback.history.records
    assert len(loaded.records) == len(records) == 40
    assert [r["value"] for r in loaded.records] == [r["value"] for r in records]


def test_the_metrics_of_the_user_and_the_spectra_are_kept_next_to_the_records(default_fit):
    history = History.load(default_fit.board)
    last = history.validations()[-1]
    accuracy = [m for m in history.metrics if m["name"] == "val_acc"]
    assert [(m["stage"], m["epoch"], m["step"]) for m in accuracy] == history.validations()
    assert accuracy[-1]["value"] == float(default_fit.runner.callback_metrics["val_acc"])
    assert not [m for m in history.metrics if m["name"].startswith("id")]
    assert list(history.spectra) == [history.validations()[0], last]
    x = toy_data(60, 1).tensors[0][choose_samples(60, 40, seed=0)].flatten(1)
    torch.testing.assert_close(
        history.spectra[last]["input"].double(),
        torch.linalg.eigvalsh(x.T.cov()).flip(0)[:40].double(),  # of 40 rows
        rtol=1e-3,
        atol=1e-5,
    )
    assert not math.isnan(history.spectra[last]["net.5"].sum())


def test_a_resumed_run_continues_its_history(tmp_path):
    first = IntrinsicDimensionCallback()
    saver = ModelCheckpoint(tmp_path / "ckpt", save_last=True)
    fit(tmp_path, first, saver, enable_checkpointing=True, num_sanity_val_steps=-1)
    state = torch.load(tmp_path / "ckpt/last.ckpt", weights_only=True)
    assert first.state_key in state["callbacks"]
    second = IntrinsicDimensionCallback(charts=False)
    fit(
        tmp_path,
        second,
        max_epochs=3,
        ckpt=tmp_path / "ckpt/last.ckpt",
        num_sanity_val_steps=-1,
        logger=CSVLogger(tmp_path, "csv"),
    )
    assert second.history.validations() == [*first.history.validations(), ("fit", 2, 20)]
    assert str(second.history.records[:30]) == str(first.history.records)
    start, *_ = spectra = list(second.history.spectra)
    assert spectra == [("before_training", 0, 0), ("fit", 2, 20)]
    assert torch.equal(
        second.history.spectra[start]["net.5"], first.history.spectra[start]["net.5"]
    )
    written = History.load(tmp_path / "csv/version_0/history.csv")
    assert len(written.records) == len(second.history.records)


def test_no_hook_stays_after_the_end_or_an_exception(default_fit, tmp_path):
    assert count_hooks(default_fit.model) == 0

    class Failing(Toy):
        def validation_step(self, batch, batch_idx):
            super().validation_step(batch, batch_idx)
            assert count_hooks(self) > 0  # the callback was watching
            raise RuntimeError("mine")

    model = Failing()
    with pytest.raises(RuntimeError, match="mine"):
        fit(tmp_path, IntrinsicDimensionCallback(), model=model)
    assert count_hooks(model) == 0


def test_batches_without_a_chosen_sample_have_no_hooks(tmp_path):
    counts = []

    class Counting(Toy):
        def validation_step(self, batch, batch_idx):
            counts.append(count_hooks(self))
            super().validation_step(batch, batch_idx)

    fit(tmp_path, IntrinsicDimensionCallback(n_samples=16, seed=None), model=Counting())
    # The first batch of all is traced; of the second validation only the first holds samples.
    assert [count > 0 for count in counts] == [True, False, False, False] * 2


def test_a_wrong_name_fails_before_anything_is_trained(tmp_path):
    trained = []

    class Noting(Toy):
        def training_step(self, batch, batch_idx):
            trained.append(batch_idx)
            return super().training_step(batch, batch_idx)

    with pytest.raises(ValueError, match=r"'net\.33'.*Close: 'net\.3'"):
        fit(tmp_path, IntrinsicDimensionCallback(["net.33"]), model=Noting())
    assert not trained


def test_what_cannot_be_estimated_is_not_logged_and_the_history_has_the_reason(tmp_path):
    class Dead(Toy):
        def __init__(self):
            super().__init__()
            self.net[5].weight.data.zero_()
            self.net[5].weight.requires_grad_(False)

    callback = IntrinsicDimensionCallback(["net.5", "net.3"])
    with pytest.warns(
        UserWarning, match=r"layers 'net\.5', 'last_hidden': no twonn dimension: expected at least"
    ):
        runner, _ = fit(tmp_path, callback, model=Dead())
    assert "id_twonn/net.5" not in runner.callback_metrics
    assert "id_twonn/net.3" in runner.callback_metrics
    dead = [r for r in callback.history.records if r["layer"] == "net.5"]
    assert all(math.isnan(r["value"]) for r in dead if r["estimator"] == "twonn")
    assert dead[0]["reason"].startswith("expected at least 3 distinct rows, got 1 (of 60; 59")
    assert dead[0]["n_duplicates"] == 59


def test_an_estimator_that_fails_is_named_and_the_others_have_their_numbers(tmp_path):
    callback = IntrinsicDimensionCallback(["net.0"], per_class=10)
    callback.estimators = {"broken": lambda geometry: 1 / 0, **callback.estimators}
    with pytest.warns(UserWarning, match="no broken dimension: ZeroDivisionError") as warned:
        fit(tmp_path, callback, max_epochs=1)
    assert not [w for w in warned if "twonn" in str(w.message)]
    assert {r["label"] for r in callback.history.records} > {None, "0"}
    reasons = {r["estimator"]: r["reason"] for r in callback.history.records}
    assert reasons["broken"] == "ZeroDivisionError('division by zero')"
    assert reasons["twonn"] is reasons["pca"] is None


@pytest.mark.parametrize(
    ("gives", "reason"),
    [
        (lambda geometry: 7.5, "expected an Estimate of mine, got float; return dataclasses"),
        (lambda geometry: Estimate(value=math.inf), "mine gave inf and no reason"),
        (lambda geometry: Estimate(), "mine gave nan and no reason"),
    ],
)
def test_what_is_no_estimate_has_a_reason_and_the_layer_before_it_its_number(
    gives, reason, tmp_path
):
    callback = IntrinsicDimensionCallback(["net.5"])
    callback.estimators = {**callback.estimators, "mine": gives}
    with pytest.warns(UserWarning, match="no mine dimension"):
        fit(tmp_path, callback, max_epochs=1)
    reasons = {r["estimator"]: r["reason"] for r in callback.history.records}
    assert reasons["twonn"] is None
    assert reason in reasons["mine"]


def test_the_schedule_says_which_validations_are_measured(tmp_path):
    callback = IntrinsicDimensionCallback(schedule=EveryNValidations(2))
    fit(tmp_path, callback, max_epochs=5)
    assert [epoch for _, epoch, _ in callback.history.validations()] == [0, 2, 4]


def test_early_stopping_can_monitor_the_last_hidden_dimension(tmp_path):
    stopping = EarlyStopping("id/last_hidden", mode="min", patience=1, min_delta=1e9)
    runner, _ = fit(tmp_path, IntrinsicDimensionCallback(), stopping, max_epochs=9)
    assert runner.current_epoch == 2


def test_what_was_matched_is_shown_once(default_fit):
    (shown,) = [text for text in default_fit.logged if "is measured in" in text]
    assert "net.5        depth 0.67  16 features" in shown
    # float32 rows of 64, 36, 16 and 3 features, and `last_hidden`, which is the 16 again
    assert (size := re.search(r"rows take (\S+) GiB in cpu memory\.", shown))
    assert float(size[1]) == pytest.approx(4 * 40 * (64 + 36 + 16 + 16 + 3) / 2**30, rel=0.03)


def whole(net, backend):
    return torch.compile(net, backend=backend)


def in_place(net, backend):
    net.compile(backend=backend)
    return net


def a_part(net, backend):
    return nn.Sequential(net[:4], torch.compile(net[4:], backend=backend))


IN_PLACE = pytest.param(
    in_place,
    marks=pytest.mark.skipif(
        torch.__version__ < (2, 7), reason="torch 2.6 leaves a container compiled in place as it is"
    ),
)


@pytest.mark.parametrize("compiled", [whole, IN_PLACE, a_part])
def test_compiled_layers_are_measured_at_every_due_validation_and_not_compiled_again(
    compiled, tmp_path
):
    class Compiled(Toy):
        def __init__(self):
            super().__init__()
            self.net = compiled(self.net, counter)

    layer = "net.1.5" if compiled is a_part else "net.5"

    # All batches are whole, which halves the graphs: 96 samples of training, 64 of validation.
    data = {"train": loader(96, shuffle=True), "val": loader(64, seed=1)}

    def watchers(layer):
        # The sanity check and the odd validations are not measured: graphs made there lack hooks.
        return [
            IntrinsicDimensionCallback({layer: "d"}, schedule=EveryNValidations(2)),
            IntrinsicDimensionCallback({layer: "d"}, schedule=AtSteps([3, 9]), prefix="steps_"),
        ]

    values, frames = [], []
    for kind, watching in [(Toy, watchers("net.5")), (Compiled, watchers(layer)), (Compiled, [])]:
        torch.compiler.reset()
        counter = CompileCounter()
        fit(tmp_path, *watching, model=kind, max_epochs=5, num_sanity_val_steps=2, **data)
        frames.append(counter.frame_count)
        values.append([[r["value"] for r in each.history.records] for each in watching])
    assert values[0] == values[1]
    # The layer and last_hidden, two estimators, three validations and two steps.
    assert [len(each) for each in values[1]] == [12, 8]
    assert frames[1] == frames[2] > 0


@pytest.mark.parametrize(
    ("argument", "value"), [("n_samples", 0), ("on_error", "stop"), ("estimators", ["twonnn"])]
)
def test_an_argument_out_of_range_is_refused(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}`|no estimator named"):
        IntrinsicDimensionCallback(**{argument: value})
