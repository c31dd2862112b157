"""The core imports in a process where Lightning and torchmetrics cannot."""

import subprocess
import sys
import textwrap

FORBIDDEN = ("pytorch_lightning", "lightning", "torchmetrics", "matplotlib", "scipy", "pandas")


def run(code):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )


def test_functional_imports_and_works_where_lightning_and_torchmetrics_cannot():
    result = run(f"""
        import sys

        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in {FORBIDDEN[:3]}:
                    raise ImportError(name + " is blocked")

        sys.meta_path.insert(0, Blocker())
        import torch
        from lightning_id.functional import twonn_dimension

        generator = torch.Generator().manual_seed(0)
        assert 1.5 < float(twonn_dimension(torch.randn(200, 2, generator=generator))) < 2.5
        loaded = [name for name in {FORBIDDEN} if name in sys.modules]
        assert not loaded, loaded
    """)
    assert result.returncode == 0, result.stderr


def test_the_blocker_blocks():
    result = run("""
        import sys

        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name == "torchmetrics":
                    raise ImportError(name + " is blocked")

        sys.meta_path.insert(0, Blocker())
        import torchmetrics
    """)
    assert "torchmetrics is blocked" in result.stderr


def test_import_changes_nothing_in_the_process():
    result = run("""
        import logging, os, torch

        def state():
            return (
                torch.random.get_rng_state().tolist(), torch.get_default_dtype(),
                torch.get_float32_matmul_precision(), torch.get_num_threads(),
                dict(os.environ), logging.getLogger().handlers[:],
            )

        before = state()
        import lightning_id.functional
        assert state() == before
    """)
    assert result.returncode == 0, result.stderr
