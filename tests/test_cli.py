"""The command `lightning-id`, called as a user does and as a function."""

import importlib
import re
import sys

import pytest

from lightning_id.__main__ import main
from tests.bare import without_data
from tests.commands import refused
from tests.processes import in_process


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch, tmp_path):
    """An empty working folder on a machine with no data and no network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lightning-id"])
    without_data(monkeypatch, tmp_path)


def test_the_version_is_shown(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    name, version = capsys.readouterr().out.split()
    assert name == "lightning-id"
    assert version[0].isdigit()


def refusals(words: list[str], package: str) -> str:
    """Return the message of a command without a package, in a process of its own."""
    for name in [n for n in sys.modules if n.split(".")[0] in ("lightning_id", package)]:
        del sys.modules[name]
    sys.modules[package] = None
    with pytest.raises(SystemExit) as stop:
        importlib.import_module("lightning_id.__main__").main(words)
    return stop.value.code


@pytest.mark.parametrize(
    ("words", "package", "extra"),
    [
        (["--help"], "jsonargparse", "experiments"),
        (["fit"], "jsonargparse", "experiments"),
        (["report", "--help"], "plotly", "report"),
        (["study", "--help"], "rich", "study"),
        (["profile", "--help"], "torchvision", "pretrained"),
    ],
)
def test_a_missing_extra_is_named_in_one_line(words, package, extra):
    command = f" {words[0]}" if words[-1] == "--help" and len(words) > 1 else ""
    assert re.sub(r"package \w+[.\w]*", "package", in_process(refusals, words, package)) == (
        f'`lightning-id{command}` needs the package: pip install "lightning-id[{extra}]", from a'
        f' clone pip install ".[{extra}]"'
    )


COMMANDS = ("fit", "validate", "test", "predict", "report", "profile", "study")


def test_help_names_the_subcommands(capsys, monkeypatch, recwarn):
    monkeypatch.setattr(sys, "argv", ["lightning-id", "--help"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"\n    {name} " in shown for name in COMMANDS)
    assert not [w for w in recwarn if "args parameter" in str(w.message)]


def test_a_command_that_does_not_exist_lists_all_that_do(capsys):
    message = refused(["reprot", "x"], capsys)
    assert all(f"'{name}'" in message for name in COMMANDS)


def test_without_a_subcommand_it_ends_with_an_error(capsys):
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2
    assert "expected" in capsys.readouterr().err
