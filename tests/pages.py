"""What a Markdown page promises: code, commands and links; and the scripts that write pages."""

import importlib.util
import re
import shlex
import subprocess
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(text: str, kind: str | None = None) -> list[str]:
    """Return the code blocks of a page, of one language or of all."""
    return [code for language, code in _FENCE.findall(text) if kind in (None, language)]


def kinds(text: str) -> set[str]:
    """Return the languages of the code blocks of a page."""
    return {language for language, _ in _FENCE.findall(text)}


def run_python(code: str, name: str, names: dict[str, object] | None = None) -> None:
    """Run a block, with the names that blocks before it left."""
    exec(compile(code, name, "exec"), {} if names is None else names)


def commands(text: str) -> list[list[str]]:
    """Return the words of every line of the shell blocks of a page."""
    lines = "".join(blocks(text, "sh")).splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def assert_is_a_target(target: str) -> None:
    """Check that the Makefile has a target, without making it."""
    subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


def broken_links(page: Path) -> list[str]:
    """Return the links of a page to files, and to places in them, that do not exist."""
    text = _FENCE.sub("", page.read_text())
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, place = link.partition("#")
        target = page.parent / name if name else page
        if "://" in link:
            continue
        if not target.exists() or (place and place not in _places(target.read_text())):
            broken.append(link)
    return broken


def example(name: str) -> ModuleType:
    """Return a script of the examples as a module, which does not run its main."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _places(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", text), re.MULTILINE)
    named = [found[1] for heading in headings if (found := re.search(r"\{#(\S+)\}$", heading))]
    plain = [re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings]
    return {*named, *(re.sub(r"[-\s]+", "-", heading) for heading in plain)}
