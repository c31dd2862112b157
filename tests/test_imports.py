"""Imports of the package in a fresh interpreter: cheap, without side effects, without Lightning."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, logging, os, random, sys, warnings
import numpy, torch

def state():
    return (
        torch.get_rng_state().tolist(), random.getstate(), str(numpy.random.get_state()),
        torch.get_default_dtype(), torch.get_float32_matmul_precision(), torch.get_num_threads(),
        dict(os.environ), logging.getLogger().handlers[:], warnings.filters[:],
    )

def loaded(*names):
    return [name for name in names if name in sys.modules]

class Blocker:
    names = "pytorch_lightning", "lightning", "torchmetrics", "matplotlib", "pandas"

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ImportError(name + " is blocked")

found, before = {}, state()
sys.meta_path.insert(0, Blocker())
import lightning_id
early = [name for name in sys.modules if name.startswith("lightning_id.")]
found["loaded with the package"] = early
found["subpackages"] = sorted({"functional", "figures", "metrics"} & set(dir(lightning_id)))
found["missing"] = sorted(set(lightning_id.__all__) - set(dir(lightning_id)))

import lightning_id.functional
found["loaded with functional"] = loaded("scipy", "lightning_id.recording")
x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
found["twonn"] = float(lightning_id.functional.twonn_dimension(x))

import lightning_id.recording
from lightning_id.history import History, queries, tables
found["imports change nothing"] = state() == before
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
before = state()
with lightning_id.recording.record_activations(net, ["input", "0"]) as rows:
    out = net(x)
found["rows"] = torch.equal(rows["input"], x) and torch.equal(rows["0"].relu(), out)
found["recording changes nothing"] = state() == before
samples = torch.utils.data.TensorDataset(x)
with lightning_id.monitor(net, samples, every=1, layers=["0"], last_hidden="0") as watch:
    watch.step()
found["monitor"] = [v.stage for v in watch.history.validations()]
found["monitor changes nothing"] = state() == before
history = History()
history.append(stage="fit", epoch=0, step=1, layer="a", estimator="twonn", value=2.0)
found["table"] = tables.end_table(history)
found["last"] = queries.last_of_fit(history.validations()).step
try:
    import torchmetrics
except ImportError as error:
    found["blocked"] = str(error)

Blocker.names = ()
found["public"] = [getattr(lightning_id, name).__name__ for name in lightning_id.__all__]
found["of subpackages"] = [
    lightning_id.figures.heat_map.__name__, lightning_id.metrics.MLEDimension.__name__
]
import lightning_id.callback.loggers
found["trackers"] = loaded("wandb", "mlflow", "comet_ml")
for name in [name for name in sys.modules if name.startswith("lightning_id.figures")]:
    del sys.modules[name]
sys.modules.pop("matplotlib.pyplot", None)  # torchmetrics has it
import lightning_id.figures as figures
figures.depth_profile(History()).savefig("/dev/null", format="png")
found["drawing loads"] = loaded("matplotlib.pyplot")
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found():
    """Facts seen by an interpreter that imports one part of the package after the other."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_package_alone_imports_no_part_of_itself_and_lists_all(found):
    assert found["loaded with the package"] == found["missing"] == []
    assert found["subpackages"] == ["figures", "functional", "metrics"]


def test_functional_recording_and_history_work_without_lightning_and_matplotlib(found):
    assert found["blocked"] == "torchmetrics is blocked"
    assert found["loaded with functional"] == []
    assert 1.5 < found["twonn"] < 2.5
    assert found["rows"]
    assert "a" in found["table"]
    assert found["last"] == 1
    assert found["monitor"] == ["before_training", "fit"]


def test_imports_and_recording_change_no_global_state(found):
    assert found["imports change nothing"]
    assert found["recording changes nothing"]
    assert found["monitor changes nothing"]


def test_all_public_names_exist(found):
    assert found["public"] == [
        "AtSteps",
        "EveryNValidations",
        "History",
        "IntrinsicDimensionCallback",
        "LogSpaced",
        "PCADimension",
        "TwoNNDimension",
        "monitor",
        "record_activations",
    ]
    assert found["of subpackages"] == ["heat_map", "MLEDimension"]


def test_the_module_of_the_loggers_imports_no_tracker(found):
    assert found["trackers"] == []


def test_drawing_leaves_pyplot_unloaded(found):
    assert found["drawing loads"] == []
