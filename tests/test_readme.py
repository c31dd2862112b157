"""Every code block of the README runs, and every command it prints exists."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", [code for kind, code in BLOCKS if kind == "python"])
def test_a_python_block_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})


def test_the_shell_commands_are_targets_of_the_makefile():
    commands = [code for kind, code in BLOCKS if kind == "sh"]
    targets = re.findall(r"^make (\w+)", "\n".join(commands), re.MULTILINE)
    assert targets == ["mnist", "test"]
    for target in targets:
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


def test_there_is_no_other_kind_of_block():
    assert {kind for kind, _ in BLOCKS} == {"python", "sh"}


def test_every_file_it_links_to_exists():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []
