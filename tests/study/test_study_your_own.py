"""The example of a study of one's own model: killed in the middle, it goes on."""

import shutil
from pathlib import Path

import pytest
import yaml

from lightning_id.__main__ import main
from lightning_id.study.grid import load_study, trainings_of
from lightning_id.study.runs import prepare_study
from tests.study.helpers import children, results, running, wait_until

EXAMPLE = Path(__file__).parents[2] / "examples" / "study_your_own"


@pytest.fixture
def example(tmp_path):
    """A copy of the example with three trainings."""
    folder = shutil.copytree(EXAMPLE, tmp_path / "example", ignore=lambda *_: ["__pycache__"])
    content = yaml.safe_load((folder / "study.yaml").read_text())
    content["grid"] = {"model.init_args.width": [16], "seed_everything": [0, 1, 2]}
    content["groups"] = {}
    content["rehearse"] = False
    (folder / "study.yaml").write_text(yaml.safe_dump(content))
    return folder / "study.yaml"


def test_the_study_is_valid_and_of_at_most_25_lines():
    path = EXAMPLE / "study.yaml"
    assert len(path.read_text().splitlines()) <= 25
    prepare_study(path, None, "local", None, None)
    trainings = trainings_of(load_study(path))
    assert len(trainings) == 36
    assert len({each.cell for each in trainings}) == 12
    assert "lightning_id" not in (EXAMPLE / "digits.py").read_text()


def test_a_killed_study_leaves_no_process_and_goes_on_where_it_was(example, capsys, forks):
    words = ["-m", "lightning_id", "study", str(example), "--workers", "1"]
    with Path("shown.txt").open("w") as log, running(words, log) as study:
        wait_until(lambda: results("runs/study"))
        wait_until(lambda: children(study.pid))
        orphans = children(study.pid)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans))
    first = results("runs/study")
    assert 1 <= len(first) < 3
    main(["study", str(example)])
    assert results("runs/study").items() > first.items()
    assert len(results("runs/study")) == 3
    assert "3 of 3 trainings" in Path("runs/study/page.md").read_text()
    assert capsys.readouterr().out.endswith("runs/study/page.md\n")
