"""The callback in the Trainer of ``transformers``: an equal training, logged curves, its memory."""

import pytest
import torch
import transformers

from lightning_id import AtSteps, History
from lightning_id.functional import twonn_dimension
from lightning_id.transformers import IntrinsicDimensionCallback
from tests.toys import count_hooks

WORDS, LONGEST = 40, 9


def sentences(n, seed=0):
    """Sentences of 3 to 9 words, and whether the first word is one of the first half."""
    draw = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(n):
        length = int(torch.randint(3, LONGEST + 1, (), generator=draw))
        ids = torch.randint(1, WORDS, (length,), generator=draw)
        padding = torch.zeros(LONGEST - length, dtype=torch.long)
        mask = torch.cat([torch.ones_like(ids), padding])
        label = int(ids[0] < WORDS // 2)
        found.append(
            {"input_ids": torch.cat([ids, padding]), "attention_mask": mask, "labels": label}
        )
    return found


def tiny():
    config = transformers.BertConfig(
        vocab_size=WORDS,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=LONGEST,
    )
    transformers.set_seed(0)
    return transformers.BertForSequenceClassification(config)


def fit(folder, callback=None, **kwargs):
    """Train a tiny encoder with dropout and shuffled batches."""
    args = transformers.TrainingArguments(
        str(folder),
        **{
            "max_steps": 6,
            "eval_strategy": "steps",
            "eval_steps": 3,
            "per_device_train_batch_size": 8,
            "per_device_eval_batch_size": 16,
            "report_to": "none",
            "save_strategy": "no",
            "disable_tqdm": True,
            "use_cpu": True,
            "seed": 1,
        }
        | kwargs,
    )
    trainer = transformers.Trainer(
        tiny(), args, train_dataset=sentences(100), eval_dataset=sentences(60, seed=1)
    )
    if callback is not None:
        callback.attach(trainer)
    trainer.train()
    return trainer


def callback(**options):
    names = ["bert.embeddings", "bert.encoder.layer.[01]"]
    return IntrinsicDimensionCallback(**{"layers": names, "n_samples": 50} | options)


def state_of(trainer):
    momenta = trainer.optimizer.state_dict()["state"].values()
    tensors = [x for state in momenta for x in state.values() if isinstance(x, torch.Tensor)]
    return [*trainer.model.state_dict().values(), *tensors, torch.get_rng_state()]


def test_the_training_is_bit_identical_and_the_curves_are_in_tensorboard(tmp_path, monkeypatch):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    plain = state_of(fit(tmp_path / "plain"))
    ours = callback()
    trainer = fit(tmp_path / "watched", ours, report_to="tensorboard")
    assert all(torch.equal(a, b) for a, b in zip(plain, state_of(trainer), strict=True))
    assert count_hooks(trainer.model) == 0

    history = History.load(tmp_path / "watched")
    assert str(history.records) == str(ours.history.records)  # NaN equals nothing
    assert [(v.stage, v.step) for v in history.validations()] == [
        ("before_training", 0),
        ("fit", 3),
        ("fit", 6),
    ]
    assert {m["name"] for m in history.metrics} >= {"eval_loss"}
    board = accumulator.EventAccumulator(str(tmp_path / "board"))
    board.Reload()
    for layer in ("bert.embeddings", "bert.encoder.layer.0", "bert.encoder.layer.1"):
        curve = board.Scalars(f"train/id_twonn/{layer}")
        records = [r for r in history.records if r["layer"] == layer and r["estimator"] == "twonn"]
        assert [event.step for event in curve] == [0, 3, 6]
        assert [e.value for e in curve] == pytest.approx([r["value"] for r in records], rel=1e-6)


def test_the_rows_are_means_over_true_tokens(tmp_path):
    ours = callback(n_samples=60)
    trainer = fit(tmp_path, ours)
    model, dataset = trainer.model.eval(), sentences(60, seed=1)
    ids = torch.stack([each["input_ids"] for each in dataset])
    mask = torch.stack([each["attention_mask"] for each in dataset])
    with torch.no_grad():
        states = model(ids, mask, output_hidden_states=True).hidden_states
    last = [r for r in ours.history.records if r["step"] == 6 and r["estimator"] == "twonn"]
    measured = [r["value"] for r in last if r["layer"].startswith("bert.e")]
    expected = [
        twonn_dimension((h * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)).value
        for h in states
    ]
    assert measured == pytest.approx(expected, rel=1e-4)


def test_a_schedule_of_steps_and_the_best_metric(tmp_path):
    ours = callback(schedule=AtSteps([2]))
    fit(tmp_path / "steps", ours)
    assert [v.step for v in ours.history.validations()] == [0, 2]
    trainer = fit(
        tmp_path / "best",
        callback(),
        save_strategy="steps",
        save_steps=3,
        load_best_model_at_end=True,
        metric_for_best_model="eval_id/last_hidden",
    )
    assert trainer.state.best_metric > 0


def test_the_memory_of_a_pass_is_bounded(tmp_path):
    """Rows beyond the limit are in a file, and hidden states of one batch alone exist at once."""
    limit = 8 * 50 * 16 / 2**30  # GiB: two of the three layers in float32
    ours = callback(memory_limit=limit)
    sizes = []
    trainer = fit(tmp_path, ours, max_steps=1)
    kept = trainer.model.bert.encoder.layer[0].register_forward_hook(
        lambda _m, _i, out: sizes.append(len(out if isinstance(out, torch.Tensor) else out[0]))
    )
    passed, nbytes = ours._watch._pass, []

    def watched(loader, start):
        batches, measurement = start(loader)
        passed(loader, lambda _: (batches, measurement))
        nbytes.append(measurement._recorder.storage.nbytes())

    ours._watch._pass = watched
    ours._watch.measure()
    kept.remove()
    assert max(sizes) == 16  # the evaluation's batch, of 50 samples
    (counts,) = nbytes
    assert 0 < counts["cpu"] <= limit * 2**30
    assert sum(counts.values()) == 4 * 50 * 16 * 4  # three layers and the last hidden one


def test_without_a_trainer_samples_are_a_loader():
    ours = callback()
    args = transformers.TrainingArguments("unused", report_to="none", use_cpu=True)
    state, control = transformers.TrainerState(), transformers.TrainerControl()
    with pytest.raises(ValueError, match="`samples`: expected a DataLoader"):
        ours.on_train_begin(args, state, control, model=tiny())
