"""From the second measurement of a fit on, PCA counts need no decomposition; spectra come later."""

import pytest
import torch
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch.utils.data import DataLoader, TensorDataset

from lightning_id import History, IntrinsicDimensionCallback
from lightning_id.callback.outputs import Outputs
from lightning_id.functional import geometry
from lightning_id.functional.pca import CERTIFIED
from lightning_id.recording.results import KEPT
from tests.toys import Toy, loader, trainer

LAYERS = ["input", "net.0", "net.3"]  # 64, 144 and 36 features


def fit(folder, model=None, **options):
    """Return the callback, the history files written after every measurement, and the Trainer."""
    torch.random.default_generator.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(100, 3, generator=generator) @ torch.randn(3, 64, generator=generator)
    data = DataLoader(TensorDataset(x.reshape(100, 1, 8, 8), x[:, 0].gt(0).long()), 50)
    callback = IntrinsicDimensionCallback(LAYERS, n_samples=100, **options)
    runner = trainer(folder, callbacks=[callback], max_epochs=4, logger=CSVLogger(folder))
    written, after = [], Outputs.after

    def noting(outputs, *arguments):
        after(outputs, *arguments)
        state = callback.history.state_dict()["spectra"]
        written.append((list(History.load(runner.log_dir).spectra), len(state)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Outputs, "after", noting)
        runner.fit(model or Toy(), loader(64, seed=3), data)
    return callback, written, runner


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same fit with and without counts of so few columns."""
    plain = fit(tmp_path_factory.mktemp("plain"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geometry, "SMALLEST", 60)
        return fit(tmp_path_factory.mktemp("counted")), plain


def computations(callback, layer):
    return [
        r["computation"]
        for r in callback.history.records
        if (r["layer"], r["estimator"]) == (layer, "pca")
    ]


def test_values_are_the_same_and_the_records_have_the_way(both):
    (counted, _, _), (plain, _, _) = both
    values = [[str(r["value"]) for r in each.history.records] for each in (counted, plain)]
    assert values[0] == values[1]
    assert computations(counted, "net.0") == [None] + [CERTIFIED] * 3
    assert computations(counted, "input") == [None, CERTIFIED, KEPT, KEPT]
    assert computations(counted, "net.3") == computations(plain, "net.0") == [None] * 4


def test_the_last_spectra_are_computed_at_the_end_and_the_same(both):
    (counted, written, runner), (plain, _, _) = both
    first, *_, last = counted.history.validations()
    assert written == [([first], 1)] * 4  # files and checkpoints
    for found in (counted.history, History.load(runner.log_dir)):
        assert list(found.spectra) == [first, last]
        for place in (first, last):
            for layer in LAYERS:
                expected = plain.history.spectra[place][layer]
                torch.testing.assert_close(
                    found.spectra[place][layer].double(), expected, rtol=1e-6, atol=0
                )
    assert not counted.history.solve_spectra()  # nothing is left to compute


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SIGTERMException])
def test_a_fit_that_an_error_ends_has_its_last_spectra_in_its_files(error, tmp_path, monkeypatch):
    class Failing(Toy):
        def on_train_epoch_start(self):
            if self.current_epoch == 2:
                raise error

    monkeypatch.setattr(geometry, "SMALLEST", 60)
    with pytest.raises((error, SystemExit)):
        fit(tmp_path, Failing())
    (folder,) = {path.parent for path in tmp_path.rglob("history_spectra.npz")}
    history = History.load(folder)
    assert list(history.spectra) == history.validations()
    assert len(history.validations()) == 2


def test_spectra_of_a_running_fit_are_computed_when_read(tmp_path, monkeypatch):
    monkeypatch.setattr(geometry, "SMALLEST", 60)
    read = []

    class Reading(IntrinsicDimensionCallback):
        def on_train_epoch_end(self, trainer, pl_module):
            super().on_train_epoch_end(trainer, pl_module)
            read.append([len(self.history.of_set("val").spectra), len(self.history.spectra)])

    monkeypatch.setattr("tests.callback.test_certified.IntrinsicDimensionCallback", Reading)
    fit(tmp_path)
    assert read == [[1, 1], [2, 2], [2, 2], [2, 2]]


def test_an_estimator_that_needs_all_eigenvalues_has_them(tmp_path, monkeypatch):
    monkeypatch.setattr(geometry, "SMALLEST", 60)
    callback, written, _ = fit(tmp_path, estimators=["pca", "effective_rank"])
    assert computations(callback, "net.0") == [None] * 4
    assert [n for _, n in written] == [1, 2, 2, 2]
    assert "certified" not in {r["computation"] for r in callback.history.records}
