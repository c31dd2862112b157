"""What a measurement keeps in memory is bounded, by default too."""

import importlib
import os
import resource
import warnings
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from lightning_id import IntrinsicDimensionCallback
from lightning_id.experiments.networks import MNISTNet
from lightning_id.functional import twonn_dimension
from lightning_id.recording.measurement import Measurement, Options
from lightning_id.recording.processes import SingleProcess
from lightning_id.recording.projection import FITTING, RandomProjection
from lightning_id.recording.rule import RowRule
from lightning_id.recording.samples import FixedSamples, uniform_draws
from lightning_id.recording.storage import (
    Limits,
    available,
    free_memory,
    free_on_device,
    free_on_host,
    left_in_control_group,
    room_for_rows,
    too_large,
)
from tests.benchmarks.cost import PARTS, rows_in_gib
from tests.processes import in_process
from tests.toys import validated

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")

TOKENS, WORDS, SAMPLES = 8, 30_000, 600
FIELDS = "layer", "value", "note", "ambient_dimension", "n_samples"


class LanguageModel(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 16)
        self.body = nn.Linear(16, 16)
        self.head = nn.Linear(16, WORDS)

    def validation_step(self, batch, batch_idx):
        self.head(self.body(self.embedding(batch)).tanh())


def resident(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(key)).split()[1])


def validate_language_model(*callbacks):
    pl.seed_everything(0, verbose=False)
    model = LanguageModel()
    ids = torch.randint(WORDS, (SAMPLES, TOKENS))
    validated(".", *callbacks, model=model, data=torch.utils.data.DataLoader(ids, 30))


def measure_in_a_gibibyte():
    """Measure with the default form in 1 GiB of free memory: records, warnings and growth."""
    warnings.simplefilter("ignore")
    validate_language_model(IntrinsicDimensionCallback(["body"]))
    resource.setrlimit(resource.RLIMIT_AS, (resident("VmSize") + 2**30,) * 2)
    before = resident("VmHWM")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        callback = IntrinsicDimensionCallback()
        validate_language_model(callback)
    return {
        "grown": resident("VmHWM") - before,
        "whole": SAMPLES * TOKENS * WORDS * 4,
        "records": [
            {field: record[field] for field in FIELDS}
            for record in callback.history.records
            if record["estimator"] == "twonn"
        ],
        "warnings": [str(w.message) for w in caught if "IntrinsicDimension" in str(w.message)],
    }


def test_the_default_form_on_the_logits_of_a_language_model_stays_within_the_free_memory():
    found = in_process(measure_in_a_gibibyte)
    assert found["whole"] > 2**29
    assert found["grown"] < 2**28 + 2**27  # a quarter of 1 GiB, and copies of a batch
    records = {record["layer"]: record for record in found["records"]}
    head = records.pop("head")
    assert head["ambient_dimension"] == 8 * 30_000
    assert head["note"].startswith("a random projection of its 240000 features to 4096, because")
    assert head["value"] > 0
    assert records
    assert all(record["note"] is None for record in records.values())
    assert len([text for text in found["warnings"] if "random projection" in text]) == 1


class Net(nn.Sequential):
    """Layers of 3 x 6000, 6000 and 10 features."""

    def __init__(self):
        super().__init__(
            nn.Linear(20, 6000),
            nn.ReLU(),
            nn.Unflatten(1, (6000, 1)),
            nn.Linear(1, 3),
            nn.Flatten(),
            nn.Linear(18_000, 10),
        )


NAMES = {name: name for name in ("0", "1", "3", "5")}
N = 100


def measure(limits, plan=None, may_project=True, model=None, **rule):
    """Return results by layer, and the measurement."""
    samples = FixedSamples(torch.arange(N), uniform_draws(N, 0))
    options = Options(RowRule(**rule), limits=limits, may_project=may_project)
    measurement = Measurement(model, NAMES, samples, options, plan)
    x = torch.randn(N, 20, generator=torch.Generator().manual_seed(0))
    for batch in x.split(40):
        measurement.begin_batch(batch)
        model(batch)
        measurement.end_batch()
    rows = {name: measurement._recorder.rows(name).clone() for name in NAMES}
    places = dict(measurement._recorder.storage.places)
    results = {r.layer: r for r in measurement.results({"twonn": twonn_dimension})}
    return results, measurement, rows, places


@pytest.fixture(scope="module")
def model():
    torch.random.default_generator.manual_seed(0)
    return Net().requires_grad_(False)


WHOLE = 4 * N * (6000 + 6000 + 18_000 + 10)  # `last_hidden` is the same as "3", measured twice
ROOM = Limits(host=WHOLE)


def test_only_the_largest_layers_are_projected_and_the_others_are_the_same(model):
    plain, _, rows, _ = measure(Limits(), model=model)
    found, measurement, kept, places = measure(ROOM, model=model)
    assert measurement.plan.projected == {"3", "last_hidden"}
    assert kept["3"].shape == (N, FITTING)
    assert torch.equal(kept["3"], RandomProjection(18_000, FITTING, 0)(rows["3"]))
    assert set(places.values()) == {"cpu"}
    assert sum(measurement.nbytes.values()) <= WHOLE
    for name in ("0", "1", "5"):
        assert torch.equal(kept[name], rows[name])
        assert found[name].estimates == plain[name].estimates
        assert found[name].notes == []
    (note,) = found["3"].notes
    assert note == (
        "a random projection of its 18000 features to 4096, because all rows together would not fit"
        " into memory"
    )
    value, other = (each["3"].estimates["twonn"] for each in (found, plain))
    assert abs(value.value - other.value) < other.std_error


def test_what_was_projected_once_is_projected_at_every_measurement(model):
    _, first, *_ = measure(ROOM, model=model)
    _, _, rows, _ = measure(Limits(), first.plan, model=model)
    assert rows["3"].shape == (N, FITTING)
    _, free, *_ = measure(Limits(), model=model)
    assert free.plan.projected == frozenset()
    _, _, rows, places = measure(ROOM, free.plan, model=model)
    assert rows["3"].shape == (N, 18_000)
    assert "file" in places.values()


def test_layers_that_are_named_or_projected_by_the_user_go_to_a_file_whole(model):
    _, _, rows, places = measure(ROOM, may_project=False, model=model)
    assert rows["3"].shape == (N, 18_000)
    assert "file" in places.values()
    _, _, rows, places = measure(Limits(host=1), model=model, max_features=5000)
    assert rows["3"].shape == (N, 5000)
    assert set(places.values()) == {"file"}


def test_layers_of_one_size_are_treated_alike():
    sizes = {"a": 90, "b": 50, "c": 50, "d": 10}
    reduced = {"a": 5, "b": 5, "c": 5}
    assert too_large(sizes, reduced, 200) == set()
    assert too_large(sizes, reduced, 199) == {"a"}
    assert too_large(sizes, reduced, 114) == {"a", "b", "c"}
    assert too_large(sizes, reduced, 0) == {"a", "b", "c"}
    assert too_large(sizes, reduced, None) == set()


def test_the_free_memory_is_that_of_the_machine_or_less():
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < free_on_host() < installed
    assert 0 < available() < installed
    free = free_memory(CPU, SingleProcess())
    assert free.device is None
    assert 0 < free.host < installed


def test_ranks_of_one_machine_share_its_memory_and_agree():
    class Three(SingleProcess):
        def all_gather(self, value):
            name, _, free = value
            return [(name, 80, free), (name, 60, free // 2), ("another", 70, free // 3)]

    free = free_memory(CPU, Three())
    assert free.device == 60
    assert free.host == pytest.approx(free_memory(CPU, SingleProcess()).host / 4, rel=0.2)


def test_the_work_memory_of_an_estimate_is_left_free():
    assert room_for_rows(Limits(None, 2**30), 1000) == (None, (2**30 - 4 * 1000 * 5096) // 4)
    assert room_for_rows(Limits(2**30, 2**30), 50_000) == (0, 0)


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text)


def test_the_limit_of_a_container_counts_less_what_it_uses_and_cannot_drop(tmp_path):
    own = tmp_path / "own"
    own.write_text("0::/job/step\n")
    write(tmp_path / "job", memory_max="5000\n", memory_current="700", memory_stat="x 1\n")
    write(tmp_path / "job/step", memory_max="max\n")
    assert left_in_control_group(tmp_path, own) == 4300
    write(tmp_path, memory_max="1000\n", memory_current="600")
    write(tmp_path, memory_stat="anon 7\ninactive_file 100\n")
    assert left_in_control_group(tmp_path, own) == 500


def test_the_limit_of_a_group_of_version_1(tmp_path):
    own = tmp_path / "own"
    own.write_text("5:cpu,cpuacct:/x\n4:memory:/docker/abc\n")
    assert left_in_control_group(tmp_path, own) is None
    write(
        tmp_path / "memory",
        memory_limit_in_bytes="900",
        memory_usage_in_bytes="500",
        memory_stat="total_inactive_file 50\n",
    )
    assert left_in_control_group(tmp_path, own) == 450


def test_the_page_of_the_cost_has_the_memory_that_a_measurement_takes():
    network = MNISTNet().requires_grad_(False)
    names = ["input", *(name for name, _ in network.named_children())]
    samples = FixedSamples(torch.arange(N), uniform_draws(N, 0))
    measurement = Measurement(network, {name: name for name in names}, samples)
    images = torch.rand(N, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    measurement.begin_batch(images)
    network(images)
    measurement.end_batch()
    list(measurement.results({"twonn": twonn_dimension}))
    assert measurement.nbytes.total() / 2**30 == rows_in_gib(N)
    assert f"| 2000 | {rows_in_gib(2000):.2g} |" in (ROOT / "docs/cost.md").read_text()


def test_the_functions_whose_time_the_cost_page_shows_exist():
    for where, name in (each for functions in PARTS.values() for each in functions):
        module, _, kind = where.rpartition(".")
        owner = getattr(importlib.import_module(f"lightning_id.{module}"), kind)
        assert callable(getattr(owner, name))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_what_the_allocator_holds_and_does_not_use_is_free():
    device = torch.device("cuda", 0)
    before = free_on_device(device)
    block = torch.empty(2**28, dtype=torch.uint8, device=device)
    assert free_on_device(device) == pytest.approx(before - 2**28, abs=2**27)
    del block
    assert free_on_device(device) == pytest.approx(before, abs=2**27)
