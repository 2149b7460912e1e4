"""One text in, one text out: what makes texts uniform. Plain functions, linear in the text's length."""

# ruff: noqa: RUF001 (signs of other scripts are meant)

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from typing import Literal

import ftfy
import pyarrow as pa
import pyarrow.compute as pc

from millrace.config.texts import TextAction, TextConfig
from millrace.transforms.markup import main_text, without_tags

_CHINESE_PUNCTUATION = "！（），：；？～"
_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}
_WIDTH = {code: narrow for code, narrow in _WIDE.items() if chr(code) not in _CHINESE_PUNCTUATION}
_PUNCTUATION = {ord(sign): _WIDE[ord(sign)] for sign in _CHINESE_PUNCTUATION}
_KATAKANA = re.compile("[\uff61-\uff9f]+")
# All controls but tab and line ends, soft hyphen, zero-width space, direction marks, byte order mark, non-characters. The joiners
# U+200C and U+200D stay: emoji, Persian and Indic scripts need them.
_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufdd0-\ufdef\ufff9-\ufffb\ufffe\uffff]"
)
_LINE_END = re.compile("\r\n|[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_MARKS = re.compile(r"[^\w\s\x00-\u02ff]{31,}")  # every combining mark is among these
_SURROGATE = re.compile("[\ud800-\udfff]")
_FTFY = ftfy.TextFixerConfig(
    unescape_html=False,
    remove_terminal_escapes=False,
    fix_latin_ligatures=False,
    fix_character_width=False,
    uncurl_quotes=False,
    fix_line_breaks=False,
    remove_control_chars=False,
    normalization=None,
    explain=False,
)


def sound(text: str) -> str:
    """The text with its surrogates joined to characters, and lone ones replaced by U+FFFD: only then it has UTF-8."""
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def without_mojibake(text: str) -> str:
    """Text that was decoded with the wrong encoding is decoded with the right one (ftfy); all else stays as it is."""
    return text if text.isascii() else ftfy.fix_text(text, _FTFY)


def normalized(form: Literal["NFC", "NFKC"], text: str) -> str:
    """Unicode's normal form. A letter keeps 30 marks (UAX #15, stream-safe text): sorting n of them takes n * n steps."""
    return text if text.isascii() else unicodedata.normalize(form, _MARKS.sub(_with_at_most_30_marks, text))


def _with_at_most_30_marks(match: re.Match[str]) -> str:
    kept: list[str] = []
    num_marks = 0
    for sign in match.group():
        num_marks = num_marks + 1 if unicodedata.combining(sign) else 0
        if num_marks <= 30:
            kept.append(sign)
    return "".join(kept)


def half_width(text: str) -> str:
    """Full-width letters, digits, signs and space as ASCII; Chinese punctuation ！（），：；？～ stays."""
    return text if text.isascii() else text.translate(_WIDTH)


def half_width_punctuation(text: str) -> str:
    """Chinese punctuation ！（），：；？～ as ASCII; 。 and 、, which have no ASCII form, stay."""
    return text if text.isascii() else text.translate(_PUNCTUATION)


def full_width_katakana(text: str) -> str:
    """Half-width katakana and their signs as full-width ones, voice marks joined to them."""
    return text if text.isascii() else _KATAKANA.sub(lambda match: unicodedata.normalize("NFKC", match.group()), text)


def without_control(text: str) -> str:
    """Without control and invisible characters; tabs and line ends stay, U+0085 becomes a line end."""
    return _CONTROL.sub("", text).replace("\x85", "\n")


def with_single_spaces(text: str) -> str:
    """Each run of white space (Unicode's, line ends too) as one space, none at the ends."""
    return " ".join(text.split())


def with_tidy_lines(text: str) -> str:
    """Line ends as line feeds, one space between words, and one empty line between paragraphs."""
    tidy: list[str] = []
    for line in _LINE_END.split(text):
        words = " ".join(line.split())
        if words or (tidy and tidy[-1]):
            tidy.append(words)
    return "\n".join(tidy).rstrip("\n")


def replaced(text: str, pattern: str, by: str) -> str:
    """Every match of a pattern replaced, by RE2, whose time is linear in the text whatever the pattern."""
    return str(pc.replace_substring_regex(pa.scalar(text), pattern=pattern, replacement=by).as_py())


@cache
def _actions() -> dict[TextAction, Callable[[str], str]]:
    return {
        "html": main_text,
        "tags": without_tags,
        "mojibake": without_mojibake,
        "nfkc": lambda text: normalized("NFKC", text),
        "nfc": lambda text: normalized("NFC", text),
        "width": half_width,
        "punctuation": half_width_punctuation,
        "katakana": full_width_katakana,
        "control": without_control,
        "spaces": with_single_spaces,
        "lines": with_tidy_lines,
        "lower": str.lower,
    }


def clean_text(text: str | None, config: TextConfig) -> str | None:
    """The text after the steps, the replacements and the cut; NULL stays NULL, and an empty text stays empty."""
    return None if text is None else _cut(_replace(act(sound(text), config.steps), config), config)


def act(text: str, steps: Sequence[TextAction]) -> str:
    """The text after the steps in their order."""
    for step in steps:
        text = sound(_actions()[step](text))
    return text


def _replace(text: str, config: TextConfig) -> str:
    for each in config.replace:
        text = replaced(text, each.pattern, each.by)
    return text


def _cut(text: str, config: TextConfig) -> str:
    return text if config.max_length is None else text[: config.max_length]
