import subprocess
import sys

PROBE = """
import logging, os, random, sys, warnings
import numpy, torch
before = (torch.get_rng_state().tolist(), random.getstate(), str(numpy.random.get_state()),
          dict(os.environ), logging.root.handlers[:], torch.get_default_dtype(),
          warnings.filters[:])
import lightning_id
lightning = "pytorch_lightning" in sys.modules or "torchmetrics" in sys.modules
after = (torch.get_rng_state().tolist(), random.getstate(), str(numpy.random.get_state()),
         dict(os.environ), logging.root.handlers[:], torch.get_default_dtype(), warnings.filters[:])
print(before == after, lightning, sorted(set(lightning_id.__all__) - set(dir(lightning_id))))
print([getattr(lightning_id, name).__name__ for name in lightning_id.__all__])
"""

SUBPACKAGES = """
import sys, lightning_id
early = [name for name in sys.modules if name.startswith("lightning_id.")]
names = ["functional", "figures", "metrics"]
print(early, set(names) <= set(dir(lightning_id)))
print(lightning_id.functional.twonn_dimension.__name__, "pytorch_lightning" in sys.modules,
      lightning_id.figures.heat_map.__name__, lightning_id.metrics.MLEDimension.__name__)
"""


def test_importing_the_package_changes_nothing_and_all_public_names_exist():
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    state, names = done.stdout.splitlines()
    assert state == "True False []"
    assert names == str(
        [
            "AtSteps",
            "EveryNValidations",
            "History",
            "IntrinsicDimensionCallback",
            "LogSpaced",
            "PCADimension",
            "TwoNNDimension",
            "record_activations",
        ]
    )


def test_subpackages_are_there_when_they_are_asked_for():
    words = [sys.executable, "-c", SUBPACKAGES]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == "[] True\ntwonn_dimension False heat_map MLEDimension\n"
