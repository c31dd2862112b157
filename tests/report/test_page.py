"""The page, also of histories with little in them."""

import html
import math
import re

import pytest

from lightning_id import History
from lightning_id.report.page import html_page
from tests.report.histories import (
    LITTLE,
    NASTY,
    measured,
    page_of_little,
    whole_run,
)


@pytest.mark.parametrize("name", LITTLE)
def test_a_page_of_little_says_what_is_true(name):
    said = LITTLE[name][1]
    page = page_of_little(name)
    assert said in html.unescape(re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL))
    assert "nan" not in re.sub(
        r"<script.*?</script>|data:[^\"]*|\w*nan\w+", "", page, flags=re.DOTALL
    )


def test_runs_of_little_are_laid_over_each_other():
    few = [name for name in LITTLE if name != "60 layers"]
    page = html_page({name: LITTLE[name][0] for name in few})
    assert all(f"<h3>{name}</h3>" in page for name in few)


def test_names_break_out_of_nothing():
    page = html_page({"<i>run</i></title>": whole_run(NASTY[:4]), "other": whole_run(NASTY[1:])})
    plain = html_page({"a": whole_run(), "other": whole_run()})
    for tag in ("<script", "</script", "<b>", "<i>", "</title"):
        assert page.count(tag) == plain.count(tag)
    for name in NASTY:
        assert html.escape(name) in page.replace("&#34;", "&quot;")


def test_the_page_forbids_itself_to_fetch_anything():
    page = html_page({"a": whole_run()})
    assert "default-src 'none'" in page
    assert not re.search(r"<(link|iframe|script[^>]*\ssrc|img[^>]*src=\"(?!data:))", page)


def test_200_validations_of_16_layers_make_a_page_below_8_mb():
    history = History()
    for step in range(200):
        measured(history, ("fit", step, step), [10 + math.sin(i) for i in range(16)])
    assert len(html_page({"long": history})) < 8e6
