"""HTML: the text of pages, of broken pages, and of pages made to take for ever."""

from __future__ import annotations

import gzip
import re
import time
from pathlib import Path

import pytest

from millrace.transforms import markup
from millrace.transforms.markup import main_text, without_tags
from tests.transforms.real_texts import data_folder

STORY = "The mill stands by the river, and has done so for three hundred years, as the people of the town like to tell. "
PAGE = f"""<!DOCTYPE html><html><head><title>Mill</title><style>p {{color: red}}</style>
<script>var x = "<p>no</p>";</script></head>
<body><nav><ul><li><a href="/">Home</a></li><li><a href="/b">Buy our mugs</a></li></ul></nav>
<article><h1>The mill</h1><p>{STORY * 3}</p><p>{STORY * 2}水车 &amp; 😀</p></article>
<footer>Copyright, all rights reserved. Cookies.</footer></body></html>"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a <b>x</b>y <br/>z", "a xy\nz"),
        ("<ul><li>one<li>two</ul>end", "one\ntwo\nend"),
        ("<td>a</td><td>b</td>", "a  b"),
        ("1 < 2 and 3 > 2, <3 you", "1 < 2 and 3 > 2, <3 you"),
        ('<a title="q > r" href=x>w</a>', "w"),
        ("<a title='it\"s'>w</a>", "w"),
        ("<p class=\"it's>x", "x"),
        ("x<script>if (a<b) {}</script>y<STYLE>p{}</Style >z", "xyz"),
        ("x<script>never ends", "x"),
        ("x<!-- a <b> -->y<!-- never ends", "xy never ends"),
        ("<!DOCTYPE html><?xml version='1.0'?>x", "x"),
        ("&lt;b&gt; &amp;amp; &#x4f60;&#22909; &nbsp;&unknown; &#xD800;", "<b> &amp; 你好 \xa0&unknown; \ufffd"),
        ("a <unclosed b", "a <unclosed b"),
        ("</p></p><p><p>x", "x"),
        ("", ""),
    ],
)
def test_all_text(text: str, expected: str) -> None:
    assert without_tags(text) == expected


def test_main_text() -> None:
    found = main_text(PAGE)
    assert STORY.strip() in found
    assert "水车 & 😀" in found
    assert not any(word in found for word in ("mugs", "Cookies", "color", "var x"))
    assert main_text(PAGE) == found
    assert main_text("<html><body></body></html>") == ""
    assert main_text(f"<p>{STORY}<b>bold</b>") == f"{STORY}bold"
    assert "mill stands" in main_text(PAGE.replace("</p>", "").replace("</article>", "<<>").replace("<h1>", "\x00<h1"))


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr("socket.socket.connect", refuse)
    page = PAGE.replace("<article>", '<article><img src="http://192.0.2.1/x.png"><iframe src="http://192.0.2.1/"></iframe>')
    page = page.replace("<!DOCTYPE html>", '<!DOCTYPE html SYSTEM "http://192.0.2.1/x.dtd">')
    assert STORY.strip() in main_text(page)


def test_a_page_that_breaks_trafilatura_keeps_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(page: str) -> str:
        raise RecursionError

    monkeypatch.setattr(markup, "_extract", lambda: fail)
    assert main_text("<p>a</p><p>b</p>") == "a\nb"


@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param("<div>" * 200_000, id="deep"),
        pytest.param("<a " * 300_000, id="unclosed"),
        pytest.param('<a "' * 250_000, id="open quotes"),
        pytest.param("<!--" * 250_000, id="open comments"),
        pytest.param("<script>" * 120_000, id="open scripts"),
        pytest.param("<table><tr><td>" * 60_000, id="tables"),
        pytest.param("&#x41;" * 150_000 + "<p>", id="entities"),
        pytest.param("<" + "a" * 10**6, id="a long name"),
        pytest.param("<html><body><article><p>" + "<b>x</b> " * 100_000, id="wide"),
        pytest.param("<p>" + "你好，世界。" * 200_000, id="one paragraph"),  # noqa: RUF001
    ],
)
def test_bombs_take_bounded_time(bomb: str) -> None:
    started = time.monotonic()
    without_tags(bomb)
    main_text(bomb)
    assert time.monotonic() - started < 30.0


def test_a_page_of_a_crawl_against_the_crawls_own_text() -> None:
    """Common Crawl has made a text of the same page by itself: all of it, navigation too."""
    folder = Path(data_folder("webcrawl_samples"), "commoncrawl")
    record = gzip.decompress((folder / "whirlwind.warc.gz").read_bytes()).decode()
    found = main_text(record[record.index("<!DOCTYPE html>") :])
    whole = gzip.decompress((folder / "whirlwind.warc.wet.gz").read_bytes()).decode()
    story = whole[whole.index("Escopete ye un municipio") : whole.index("Administración[editar")].strip()
    assert len(story) > 600 and story in found
    for around in ("Politica de privacidat", "Declaración de cookies", "Versión ta mobils", "Sobre Biquipedia"):
        assert around in whole and around not in found
    words = set(re.findall(r"\w+", whole))
    assert [word for word in re.findall(r"\w+", found) if word not in words] == []
