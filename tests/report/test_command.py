"""The command, its formats, and what is refused."""

import csv
import runpy
import sys

import pytest
from PIL import Image

from lightning_id.__main__ import main
from lightning_id.report import write_report
from lightning_id.report.command import load_runs
from lightning_id.report.page import markdown
from tests.processes import in_process
from tests.report.histories import (
    NASTY,
    whole_run,
)


@pytest.fixture
def folder(tmp_path):
    whole_run().save(tmp_path / "runs" / "version_0")
    return tmp_path / "runs" / "version_0"


def test_one_run_needs_no_list_and_none_is_an_error(folder):
    assert write_report(str(folder), format="markdown") == folder / "report.md"
    with pytest.raises(ValueError, match="expected at least one folder of a run, got none"):
        write_report([])


def test_the_command_writes_the_page_into_the_folder_of_the_run_and_says_where(folder, capsys):
    main(["report", str(folder)])
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "Intrinsic dimension: runs/version_0</title>" in page
    assert "Decreased by 25 % at layer2" in page
    assert page.count("data:image/png;base64,") >= 3


def call(words):
    """Call `python -m lightning_id` as the shell does."""
    sys.argv = words
    runpy.run_module("lightning_id", run_name="__main__", alter_sys=True)


def test_the_command_is_found_from_the_shell(folder):
    in_process(call, ["lightning-id", "report", str(folder), "--format", "markdown"])
    assert (folder / "report.md").exists()


def test_help_names_the_report(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["lightning-id"])
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "lightning-id report RUN" in " ".join(capsys.readouterr().out.split())


def test_the_picture_is_a_png(folder):
    assert write_report([folder], format="png").read_bytes().startswith(b"\x89PNG")
    both = write_report([folder, folder], folder / "new" / "both.png", "png")
    assert both.read_bytes().startswith(b"\x89PNG")


def test_the_moving_picture_is_a_gif_of_one_run(folder, tmp_path):
    path = write_report(folder, format="gif")
    with Image.open(path) as gif:
        assert (gif.format, gif.n_frames) == ("GIF", 4)  # three measurements, and the layers
    whole_run().save(tmp_path / "other")
    with pytest.raises(ValueError, match="expected one run for a moving picture, got 2"):
        write_report([folder, tmp_path / "other"], format="gif")


def test_the_csv_has_the_records_of_all_runs(tmp_path):
    for name in "ab":
        whole_run().save(tmp_path / name)
    path = write_report([tmp_path / "a", tmp_path / "b" / "history.csv"], tmp_path / "c", "csv")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["a"] * 24 + ["b"] * 24
    assert rows[0]["value"] == "12.0"


def test_the_markdown_has_findings_table_and_making():
    text = markdown({"a_run": whole_run(NASTY[:4])})
    assert text.startswith("# Intrinsic dimension: a\\_run\n")
    assert "- **Hunchback.** Formed in training." in text
    assert "| couche\\|é.ö | 0.67 |" in text
    assert "<b>" not in text.replace("\\<b\\>", "")
    assert "- **Precision.** float32" in text


def test_a_folder_without_a_history_says_where_there_is_one(folder, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["report", str(folder.parent)])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert f"Expected history.csv in the folder {folder.parent}, got none" in said
    assert f"there is one in {folder}" in said


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="which does not exist"):
        load_runs([tmp_path / "nowhere"])
    with pytest.raises(FileNotFoundError, match="at the first validation that it measures"):
        load_runs([tmp_path])
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"other\.csv"):
        load_runs([tmp_path / "other.csv"])
    with pytest.raises(ValueError, match="html, png, gif, csv, markdown, got 'pdf'"):
        write_report([tmp_path], format="pdf")


def test_a_folder_is_no_file_to_write_to(tmp_path, capsys):
    whole_run().save(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["report", str(tmp_path), "--out", str(tmp_path)])
    assert stop.value.code == 2
    assert "Is a directory" in capsys.readouterr().err


def test_runs_are_named_by_what_distinguishes_them(tmp_path):
    paths = [tmp_path / "a" / "version_0", tmp_path / "b" / "version_0"]
    for path in paths:
        whole_run().save(path)
    assert list(load_runs(paths)) == ["a/version_0", "b/version_0"]
    assert list(load_runs(paths[:1])) == list(load_runs(paths[:1] * 2)) == ["a/version_0"]
    inside = paths[0] / "train"
    whole_run().save(inside)
    assert list(load_runs([paths[0], inside])) == ["version_0", "version_0/train"]
