"""The fine-tuning of the examples on a tiny network: its page and picture, from the start on."""

import runpy
import sys
from pathlib import Path

from tests.toy_text import save_encoder

EXAMPLE = Path(__file__).parents[1] / "examples" / "finetune_text.py"


def test_the_page_has_the_last_blocks_next_to_the_accuracy(tmp_path, monkeypatch, capsys):
    folder, out = save_encoder(tmp_path / "model"), tmp_path / "page.md"
    words = ["--model", str(folder), "--packages", "json", "http", "--epochs", "1"]
    monkeypatch.setattr(sys, "argv", ["example", *words, "--out", str(out)])
    monkeypatch.syspath_prepend(EXAMPLE.parent)
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    lines = out.read_text().splitlines()
    head = lines.index("| step | accuracy | layer.0 | layer.1 | head |")
    rows = [line.strip("| ").split(" | ") for line in lines[head + 2 : head + 5]]
    steps = [int(step) for step, *_ in rows]
    assert steps[0] == 0 < steps[1] < steps[2]
    for _, accuracy, *dimensions in rows:
        assert 0 < float(accuracy.rstrip("%")) <= 100
        assert all(float(bar.split(" ± ")[0]) > 0 for bar in dimensions)
    assert "encoder.embeddings" in capsys.readouterr().out
    assert (tmp_path / "page.png").stat().st_size > 10_000
