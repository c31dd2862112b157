"""The subcommand `study`: finished runs and dry runs, without a training."""

from pathlib import Path

import pytest

from lightning_id.study import command
from tests.commands import refused
from tests.report.histories import after_training
from tests.study.helpers import write

WIDTH, SEED = "model.init_args.width", "seed_everything"


@pytest.fixture
def folders():
    """Folders of three finished runs of two learning rates."""
    found = []
    for number, lr in enumerate((0.1, 0.1, 0.3)):
        history = after_training([5, 9, 6 + number, 4])
        history.append_metrics(("fit", 1, 20), {"val_acc": 0.5 + number / 10})
        folder = Path(f"run{number}")
        history.save(folder)
        (folder / "config.yaml").write_text(f"seed_everything: {number}\nlr: {lr}\n")
        found.append(str(folder))
    return found


def test_finished_runs_are_analysed_and_the_page_is_named_last(folders, capsys):
    command.main([*folders, "--error", "1 - val_acc", "--predictors", "last_hidden", "peak"])
    *verdicts, page = capsys.readouterr().out.splitlines()
    assert page == "page.md"
    assert verdicts == [
        f"{title} (val): Inconclusive. Needs 24 runs with both numbers, got 3."
        for title in ("Last hidden dimension", "Peak dimension")
    ]
    text = Path("page.md").read_text()
    assert "lr 0.1" in text
    assert Path("page.csv").read_text().count("\n") == 4


def test_groups_and_page_of_finished_runs_may_be_given(folders, capsys):
    options = ["--error", "val_acc", "--groups", "lr", "--page", "docs/found.md"]
    command.main([*folders, *options])
    assert capsys.readouterr().out.endswith("docs/found.md\n")
    assert "lr 0.3" in Path("docs/found.md").read_text()


def test_a_setting_or_a_folder_that_does_not_exist_is_one_line(folders, capsys):
    shown = refused(["study", *folders, "--error", "val_acc", "--groups", "depth"], capsys)
    assert "expected a column 'depth'" in shown
    assert "nowhere" in refused(["study", "nowhere", "--error", "val_acc"], capsys)


def test_a_dry_run_lists_the_trainings_with_their_settings_and_states(capsys):
    command.main([write({WIDTH: [4, 8], SEED: [0]}), "--dry-run"])
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["training", "width", "seed", "state"]
    assert [line.split()[1:] for line in lines[1:]] == [[w, "0", "not", "run", "yet"] for w in "48"]
    assert not Path("runs").exists()


def test_an_interrupt_ends_with_a_line_on_how_to_continue(monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "prepare_study", interrupted)
    with pytest.raises(SystemExit, match=r"^Stopped\. .* the same command continues\.$"):
        command.main(["tiny.yaml"])
