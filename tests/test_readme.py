"""Every code block of the README runs, and every command it prints exists."""

import pytest

from tests.pages import ROOT, assert_is_a_target, blocks, broken_links, commands, kinds, run_python

README = ROOT / "README.md"
TEXT = README.read_text()


@pytest.mark.parametrize("code", blocks(TEXT, "python"))
def test_a_python_block_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_python(code, "README.md")


def test_the_shell_commands_are_targets_of_the_makefile():
    assert commands(TEXT) == [["make", "mnist"], ["make", "test"]]
    for _, target in commands(TEXT):
        assert_is_a_target(target)


def test_there_is_no_other_kind_of_block():
    assert kinds(TEXT) == {"python", "sh"}


def test_every_file_it_links_to_exists():
    assert broken_links(README) == []
