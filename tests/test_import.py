"""`functional`, `recording` and `history` need neither Lightning nor matplotlib."""

import subprocess
import sys

BLOCKED = ("pytorch_lightning", "lightning", "torchmetrics", "matplotlib", "pandas")
PROGRAM = f"""
import logging, os, sys, torch

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {BLOCKED}:
            raise ImportError(name + " is blocked")

def state():
    return (
        torch.random.get_rng_state().tolist(), torch.get_default_dtype(),
        torch.get_float32_matmul_precision(), torch.get_num_threads(),
        dict(os.environ), logging.getLogger().handlers[:],
    )

def is_loaded(*names):
    return [name for name in names if name in sys.modules]

sys.meta_path.insert(0, Blocker())
before = state()
import lightning_id.functional
assert state() == before
assert not is_loaded("scipy", "lightning_id.recording")
x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
assert 1.5 < float(lightning_id.functional.twonn_dimension(x)) < 2.5

import lightning_id.recording
net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
before = state()
with lightning_id.recording.record_activations(net, ["input", "0"]) as rows:
    out = net(x)
assert torch.equal(rows["input"], x) and torch.equal(rows["0"].relu(), out)
assert state() == before

from lightning_id.history import History, queries, tables
history = History()
history.append(stage="fit", epoch=0, step=1, layer="a", estimator="twonn", value=2.0)
assert "a" in tables.end_table(history)
assert queries.last_of_fit(history.validations()).step == 1

try:
    import torchmetrics
except ImportError as error:
    print(error)
"""


def test_functional_recording_and_history_work_without_lightning_and_matplotlib():
    words = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "torchmetrics is blocked\n"
