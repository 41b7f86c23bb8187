"""The file that is written: whole, harmless, and nothing in it is fetched."""

import re

from projects.run_report.page import config_section, render, summary_section

HOSTILE = "</pre><script>alert(1)</script><!--sections-->$title"


def test_what_is_put_in_is_text():
    page = render(f"Run {HOSTILE}", [summary_section({"Folder": HOSTILE}), config_section(HOSTILE)])
    assert "<script" not in page and "<!--" not in page
    assert page.count("&lt;script&gt;") == 4  # the title, twice, and both sections
    assert page.count("<section") == page.count("</section>") == 2
    assert '<a href="#config">Config</a>' in page
    assert not re.search(r"<link[^>]+stylesheet|<script|@import|url\(|src=\"(?!data:)", page)
    assert "default-src 'none'" in page
