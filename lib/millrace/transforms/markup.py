"""Text out of HTML: the main text of a page, or all of its text. Nothing is fetched, and no page takes more than linear time."""

from __future__ import annotations

import html
import logging
import re
from collections.abc import Callable
from functools import cache

# A tag ends before the next <, so each character is looked at once or twice, however broken the markup is.
_MARK = re.compile(
    r"""<(?:!--
      |(?P<end>/?)(?P<name>[A-Za-z][A-Za-z0-9:-]*+)(?:(?:[^<>"']++|"[^"<]*+"|'[^'<]*+')*+>|[^<>]*+>)
      |[!?][^<>]*+>)""",
    re.VERBOSE,
)
_RAW = {name: re.compile(rf"</{name}\b[^<>]*+>?", re.IGNORECASE) for name in ("script", "style", "template")}
_VOID = frozenset("area base br col embed hr img input link meta param source track wbr".split())  # noqa: SIM905
_CLOSED_BY_THE_NEXT = frozenset("p li dt dd td th tr option thead tbody tfoot".split())  # noqa: SIM905
_BLOCK_NAMES = """
    address article aside blockquote body br caption dd details div dl dt fieldset figcaption figure footer form
    h1 h2 h3 h4 h5 h6 head header hr html li main nav ol option p pre section select summary table tbody textarea
    tfoot thead title tr ul
"""
_BLOCK = frozenset(_BLOCK_NAMES.split())
_CELL = frozenset(("td", "th"))
MAX_CHARS = 1_000_000
"""A longer page is cut here before its main text is looked for."""
MAX_DEPTH = 200
MAX_TAGS = 20_000
"""A page with deeper nesting or more tags (opening and closing) keeps all of its text: its main text could take for ever."""


def main_text(text: str) -> str:
    """The main text of a page, without navigation, advertisements and other boilerplate (trafilatura; Barbaresi, 2021).

    Text without any tag stays as it is; a page without a main text becomes empty. Comments of readers go, tables stay.
    """
    if not _MARK.search(text):
        return text
    page = text[:MAX_CHARS].replace("\x00", "")
    if _is_a_bomb(page):
        return without_tags(page)
    if "<body" not in page[:100_000].lower():  # a fragment
        page = f"<html><body>{page}</body></html>"
    try:
        return _extract()(page) or ""
    except Exception:  # a page that trafilatura fails on; whatever it is, one page must not stop a night
        return without_tags(page)


def without_tags(text: str) -> str:
    """All of the text: no tags, comments, scripts and styles; blocks on lines of their own, entities as characters.

    A < that starts no tag stays. Text without < and & stays as it is.
    """
    if "<" not in text and "&" not in text:
        return text
    parts: list[str] = []
    position, comments_end = 0, True
    while match := _MARK.search(text, position):
        parts.append(text[position : match.start()])
        position = match.end()
        name = (match["name"] or "").lower()
        if name in _BLOCK:
            parts.append("\n")
        elif name in _CELL:
            parts.append(" ")
        if match.group() == "<!--":
            after = text.find("-->", position) if comments_end else -1
            comments_end = after >= 0
            position = after + 3 if comments_end else position
        elif name in _RAW and not match["end"]:
            close = _RAW[name].search(text, position)
            position = close.end() if close else len(text)
    parts.append(text[position:])
    lines = html.unescape("".join(parts)).split("\n")
    return "\n".join(stripped for line in lines if (stripped := line.strip()))


def _is_a_bomb(page: str) -> bool:
    depth = 0
    for num_tags, match in enumerate(_MARK.finditer(page), start=1):
        name = (match["name"] or "").lower()
        if name and name not in _VOID and name not in _CLOSED_BY_THE_NEXT and not match.group().endswith("/>"):
            depth = max(0, depth - 1) if match["end"] else depth + 1
        if depth > MAX_DEPTH or num_tags > MAX_TAGS:
            return True
    return False


@cache
def _extract() -> Callable[[str], str | None]:
    """trafilatura, brought in once for each process that needs it, by settings of ours whatever file the machine has."""
    import trafilatura
    from trafilatura.settings import DEFAULT_CONFIG

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # it reports every odd page
    return lambda page: trafilatura.extract(
        page, output_format="txt", include_comments=False, include_tables=True, deduplicate=False, config=DEFAULT_CONFIG
    )
