"""Regular expressions of contracts: what Java's and Python's syntax share, and Unicode classes such as \\p{L} or \\p{IsHan}.

Spark matches with Java's (java.util.regex.Pattern), and a contract is checked before there is a Java. So what only one of the two
knows is refused: an expression that passes here compiles there. \\d, \\w, \\s and \\b are ASCII's, as they are to Java.
"""

from __future__ import annotations

import re
import warnings

_ESCAPES = re.compile(r"\\(?:[dDwWsSbBtnrfa]|x[0-9A-Fa-f]{2}|u(?![dD][89A-Fa-f])[0-9A-Fa-f]{4}|[1-9]|[^A-Za-z0-9\s])")
_CATEGORY = r"C[cfnos]?|L[lmotu]?|M[cen]?|N[dlo]?|P[cdefios]?|S[ckmo]?|Z[lps]?"
_SCRIPTS = (
    "IsHan IsLatin IsGreek IsCyrillic IsArabic IsHebrew IsHiragana IsKatakana IsHangul IsThai IsDevanagari "
    "IsAlphabetic IsDigit IsLetter IsIdeographic IsPunctuation IsUppercase IsLowercase IsWhite_Space "
    "Alpha Digit Alnum Punct Upper Lower Space"
)
_UNICODE = re.compile(rf"\\[pP]\{{(?:{_CATEGORY}|{'|'.join(_SCRIPTS.split())})\}}")
_QUANTIFIER = re.compile(r"\{\d{1,4}(?:,\d{0,4})?\}")
_GROUP = re.compile(r"\((?:\?(?::|=|!|<=|<!|>|[ims]+\)|[ims]+:))?(?!\?)")


def check_pattern(pattern: str) -> None:
    """Raises ValueError, with the place, where `pattern` is not of the shared syntax."""
    plain, place = [], 0
    while place < len(pattern):
        taken, meaning = _token(pattern, place)
        plain.append(meaning)
        place += taken
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile("".join(plain))
    except (re.error, OverflowError, RecursionError, Warning) as error:
        raise ValueError(f"the pattern {pattern} is no regular expression: {error}") from None


def _token(pattern: str, place: int) -> tuple[int, str]:
    """How many characters the token at `place` has, and what stands for it in Python."""
    character = pattern[place]
    if character == "[":
        return _character_class(pattern, place)
    if character == "\\":
        return _escape(pattern, place)
    shapes = {"{": _QUANTIFIER, "(": _GROUP}
    if character in shapes:
        match = shapes[character].match(pattern, place)
        if match is None:
            raise _refusal(pattern, place)
        return len(match.group()), match.group()
    if character in "]}":
        raise _refusal(pattern, place)
    return 1, character


def _escape(pattern: str, place: int) -> tuple[int, str]:
    unicode = _UNICODE.match(pattern, place)
    if unicode is not None:
        return len(unicode.group()), r"\w" if unicode.group()[1] == "p" else r"\W"
    match = _ESCAPES.match(pattern, place)
    if match is None:
        raise _refusal(pattern, place)
    return len(match.group()), match.group()


def _character_class(pattern: str, start: int) -> tuple[int, str]:
    """[...]: neither Java's classes in classes and intersections nor Python's bare brackets in them."""
    place = start + (2 if pattern.startswith("[^", start) else 1)
    plain = [pattern[start:place]]
    first = place
    while place < len(pattern) and pattern[place] != "]":
        if pattern[place] in "[^" or pattern.startswith(("&&", "--", "||", "~~"), place):
            raise _refusal(pattern, place)
        taken, meaning = _escape(pattern, place) if pattern[place] == "\\" else (1, pattern[place])
        if meaning in (r"\b", r"\B") or re.fullmatch(r"\\[1-9]", meaning):
            raise _refusal(pattern, place)
        plain.append(meaning)
        place += taken
    if place >= len(pattern) or place == first:
        raise _refusal(pattern, start)
    return place + 1 - start, "".join(plain) + "]"


def _refusal(pattern: str, place: int) -> ValueError:
    return ValueError(f"the pattern {pattern} has at character {place + 1} what Java and Python do not read alike; write it out")
