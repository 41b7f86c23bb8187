"""The file that is written: whole, harmless, and nothing in it is fetched."""

import re

import pytest

from projects.reliable_runner.errors import InputError
from projects.run_report.page import config_section, render, summary_section, write_page

HOSTILE = "</pre><script>alert(1)</script><!--sections-->"


def test_what_is_put_in_is_text():
    page = render(f"Run {HOSTILE}", [summary_section({"Folder": HOSTILE}), config_section(HOSTILE)])
    assert "<script" not in page and "<!--" not in page
    assert page.count("&lt;script&gt;") == 4  # the title, twice, and both sections
    assert page.count("<section") == page.count("</section>") == 2
    assert '<a href="#config">Config</a>' in page
    assert not re.search(r"<link[^>]+stylesheet|<script|@import|url\(|src=\"(?!data:)", page)
    assert "default-src 'none'" in page


def test_a_name_that_is_no_text_is_shown(tmp_path):
    """Linux takes any bytes, which Python reads as lone surrogates."""
    write_page(render("\udce4", []), tmp_path / "report.html")
    assert "<title>?</title>" in (tmp_path / "report.html").read_text("utf-8")


def test_where_it_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="--out .*report.html: can't be written"):
        write_page("", tmp_path / "file" / "report.html")
