"""Every block of code in the pages runs, every command exists, and every warning has its entry."""

import ast
import importlib.util
import re
import statistics
import sys
import tomllib
from argparse import ArgumentParser
from functools import cache
from pathlib import Path

import pytest

from lightning_id import History
from lightning_id.__main__ import main
from lightning_id._checks import find_config
from lightning_id.functional import ESTIMATORS
from lightning_id.history.queries import profile
from lightning_id.report.findings import findings
from lightning_id.study.runs import prepare_study
from tests import readme
from tests.bare import without_data
from tests.pages import (
    ROOT,
    assert_is_a_target,
    blocks,
    broken_links,
    commands,
    kinds,
    run_python,
)
from tests.quick import draw_quickly

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
CONFIG = "configs/mnist.yaml"


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def with_block(kind: str) -> list[Path]:
    return [page for page in PAGES if blocks(page.read_text(), kind)]


@pytest.fixture(autouse=True)
def clone(monkeypatch, tmp_path):
    """A folder with the configurations and two runs, on a machine with no data and no network."""
    registered = "lightning_id.functional.registry.ESTIMATORS"
    monkeypatch.setattr(registered, dict(ESTIMATORS))  # the pages register others
    draw_quickly(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lightning-id"])
    without_data(monkeypatch, tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")  # set back afterwards: Lightning sets it too
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    history = History()
    for order, layer in enumerate(("input", "fc1", "fc2")):
        role = "last_hidden" if layer == "fc2" else None
        history.append(
            role=role,
            stage="fit",
            epoch=0,
            step=1,
            data="val",
            layer=layer,
            order=order,
            depth=order / 2,
            estimator="twonn",
            value=9.0 - order,
            std_error=0.1,
            n_samples=100,
            reduce="flatten",
        )
    history.append_metrics(("fit", 0, 1), {"val_acc": 0.9})
    for version in ("version_0", "version_1"):
        history.save(tmp_path / "runs" / "mnist" / version)


# --- code and commands ---------------------------------------------------------------------------


@pytest.mark.parametrize("page", with_block("python"), ids=name)
def test_the_python_blocks_of_a_page_run_one_after_another(page):
    names: dict[str, object] = {}
    for code in blocks(page.read_text(), "python"):
        run_python(code, name(page), names)


def test_the_readme_installs_and_then_has_two_commands():
    install, first, second = commands((ROOT / "README.md").read_text())
    assert install[:2] == ["pip", "install"]
    assert (first, second) == (["make", "mnist"], ["make", "test"])


def test_the_cost_in_the_readme_is_that_of_its_page():
    text = readme.README.read_text()
    assert readme.filled(text, readme.COST.read_text()) == text


def test_the_pictures_of_the_readme_are_of_the_committed_runs_and_their_caption_is_true():
    runs = {run: History.load(folder) for run, folder in readme.RUNS.items()}
    panels = readme.two_panels(runs).axes
    text = " ".join(readme.README.read_text().split())
    for axes, (run, history) in zip(panels, runs.items(), strict=True):
        assert axes.get_title() == run
        assert len(axes.get_lines()) == len(history.validations())
        untrained = history.at(history.validations()[0], "twonn")
        *values, _ = [record["value"] for record in untrained]
        middle = statistics.median(values)
        assert max(abs(value / middle - 1) for value in values) < 0.12
    trained = {run: [r["value"] for r in profile(history)] for run, history in runs.items()}
    assert trained["MNIST"][0] == max(trained["MNIST"])
    first, *_, last = fashion = trained["Fashion-MNIST"]
    assert f"from {first:.1f} to {max(fashion):.1f}, then decreases to {last:.1f}" in text
    shape = dict(findings(history))["Hunchback"]
    above, due = re.findall(r"\+(\S+ ± \S+) (?:of that )?above fc2", shape)
    assert shape.startswith("There from the start")
    assert "its peak is there from the start" in text
    assert f"{due} of its {above} above the last hidden layer are due to training" in text
    assert (readme.DOCS / "hunchback.gif").stat().st_size < 2e6


@pytest.mark.parametrize("page", with_block("yaml"), ids=name)
def test_a_yaml_block_is_read_on_top_of_an_experiment_or_is_a_study(page, tmp_path, capsys):
    for code in blocks(page.read_text(), "yaml"):
        (tmp_path / "block.yaml").write_text(code)
        if "outcome:" in code:
            prepare_study("block.yaml", None, "local", None, None)
            continue
        with pytest.raises(SystemExit) as stop:
            main(["fit", "--config", CONFIG, "--config", "block.yaml", "--print_config"])
        assert stop.value.code in (0, None)
        assert "lightning_id.IntrinsicDimensionCallback" in capsys.readouterr().out


@pytest.mark.parametrize("page", with_block("sh"), ids=name)
def test_the_shell_commands_of_a_page_exist(page):
    for words in commands(page.read_text()):
        assert_exists(words)


def assert_exists(words: list[str]) -> None:
    """Check a command: parsed by the program itself, or run where that costs nothing."""
    program, *arguments = words
    if program == "make":
        assert_is_a_target(*arguments)
    elif program == "lightning-id" and arguments[0] == "report" and "--help" not in arguments:
        main(arguments)
    elif program == "lightning-id" and arguments[0] in ("profile", "study"):
        assert_is_parsed(arguments)
    elif program == "lightning-id":
        with pytest.raises(SystemExit) as stop:
            main([*arguments, *([] if "--help" in arguments else ["--print_config"])])
        assert stop.value.code in (0, None)
    elif program == "pip":
        assert arguments[0] == "install"
        assert arguments[1] == "." or extra_of(arguments[1]) in EXTRAS
    elif program == ".ci/run":
        assert (ROOT / program).exists()
    elif program == "tensorboard":
        assert importlib.util.find_spec("tensorboard")
    else:
        pytest.fail(f"expected a command that this test knows, got {words}")


def assert_is_parsed(words: list[str]) -> None:
    """Check a command by its own parser, and go no further."""
    parse = ArgumentParser.parse_args

    def parse_and_stop(parser: ArgumentParser, args: list[str]) -> None:
        parse(parser, args)
        parser.exit()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ArgumentParser, "parse_args", parse_and_stop)
        with pytest.raises(SystemExit) as stop:
            main(words)
    assert stop.value.code == 0
    for path in [word for word in words if word.endswith(".yaml")]:
        assert Path(find_config(path)).exists()


def extra_of(requirement: str) -> str:
    return re.fullmatch(r"(?:lightning-id|\.)\[(\w+)\]", requirement)[1]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_a_page_names_in_its_text_exists(page):
    text = page.read_text()
    assert kinds(text) <= {"python", "sh", "yaml"}
    assert broken_links(page) == []
    for target in re.findall(r"`make (\w+)`", text):
        assert_is_a_target(target)
    for script in re.findall(r"`python (\S+\.py)", text):
        assert (ROOT / script).exists()
    for requirement in re.findall(r"`pip install [\"']([^\"']+)[\"']`", text):
        assert extra_of(requirement) in EXTRAS
    for path in re.findall(r"`((?:configs|examples)/[\w/]+\.\w+)`", text):
        assert (ROOT / path).exists()


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A b\n[1](#a-b) [2](#c) [3](gone.md) [4](https://example.org)\n")
    assert broken_links(page) == ["#c", "gone.md"]


# --- messages ------------------------------------------------------------------------------------

HEADINGS = [
    heading.strip("` ") if not heading.startswith("`` ") else heading[3:-3]
    for heading in re.findall(
        r"^### (.+) \{#.*\}$", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE
    )
]


def template(node: ast.expr) -> str | None:
    """Return a text of the source with … for what is filled in; None for what is no text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part) or "…" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return "".join(template(side) or "…" for side in (node.left, node.right))
    return None


@cache
def messages(of: str) -> set[str]:
    """Return the texts of the package: its warnings, reasons and notes, or any."""
    found: list[str | None] = []
    for path in sorted((ROOT / "lightning_id").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and of == "warn":
                called = ast.unparse(node.func)
                prints = ("warn" in called and "filter" not in called) or called == "sys.exit"
                found += [template(argument) for argument in node.args if prints]
                given = [k.value for k in node.keywords if k.arg in ("reason", "note")]
                found += [template(value) for value in given]
            elif isinstance(node, ast.expr) and of == "any":
                found.append(template(node))
    return {text for text in found if text and re.search(r"[A-Za-z]{3}", text.replace("…", ""))}


def is_of(heading: str, message: str) -> bool:
    parts = map(re.escape, heading.split("…"))
    return re.match(".*?".join(parts), message, re.IGNORECASE | re.DOTALL) is not None


def test_every_warning_and_every_reason_has_an_entry_of_its_own():
    warned = messages("warn")
    assert len(warned) > 10
    assert [message for message in warned if not any(is_of(h, message) for h in HEADINGS)] == []


@pytest.mark.parametrize("heading", HEADINGS)
def test_the_text_of_an_entry_is_in_the_source(heading):
    assert any(is_of(heading, message) for message in messages("any"))
