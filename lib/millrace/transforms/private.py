"""Masks what identifies people in a text: found by its form, checked by its check digits, replaced by a tag.

A number that fails its check stays as it is. E-mail and IP addresses have no check digits: there the form decides.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from datetime import date
from functools import cache

import phonenumbers
from stdnum import iban, luhn
from stdnum.iso7064 import mod_11_2

from millrace.config.texts import PiiKind

# Each repetition is bounded or cannot give back what it took, so that time is linear in the text.
_EMAIL = re.compile(
    r"(?<![\w.+%-])[A-Za-z0-9_][A-Za-z0-9._%+-]{0,63}+@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}"
    r"(?![A-Za-z0-9])",
    re.ASCII,
)
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\w)", re.ASCII)
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]{1,36}(?:(?:\d{1,3}\.){3}\d{1,3})?(?![\w:]|\.\w)", re.ASCII)
_NUMBERED = re.compile(r"(?:\b(?:version|ver|release|section|sec|chapter)\b\.?|§)\s{0,2}$", re.ASCII | re.IGNORECASE)
_CHINESE_ID = re.compile(r"(?<![0-9A-Za-z])[1-9]\d{16}[0-9Xx](?![0-9A-Za-z])", re.ASCII)
_DIGITS = re.compile(r"(?<![\w.+-])\d(?:[ -]?\d){11,}+", re.ASCII)  # a card, and whatever numbers stand around it
_GOES_ON = re.compile(r"\w|-\w|\.\d", re.ASCII)
_IBAN = re.compile(r"(?<![0-9A-Za-z])[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,30}(?![0-9A-Za-z])", re.ASCII)
_PHONE = re.compile(r"(?<![\w.])(?:\+[ ]?|\(\+?)?\d[\d ()./-]{5,22}\d(?!\w)", re.ASCII)
_GROUP = re.compile("[0-9]+")
_MAX_BEHIND = 3
"""Groups of digits that may stand behind a phone number, as a date has."""
_DATE = re.compile(r"(?:19|20)\d\d[-/. ]\d{1,2}[-/. ]\d{1,2}\b|\d{1,2}[-/.]\d{1,2}[-/.](?:19|20)\d\d\b", re.ASCII)
_ISSUERS = (  # first digits from, to, and lengths: ISO/IEC 7812 ranges of the networks
    (4, 4, (13, 16, 19)),
    (51, 55, (16,)),
    (2221, 2720, (16,)),
    (34, 34, (15,)),
    (37, 37, (15,)),
    (62, 62, (16, 17, 18, 19)),
    (81, 81, (16, 17, 18, 19)),
    (6011, 6011, (16, 19)),
    (644, 659, (16, 19)),
    (3528, 3589, (16, 17, 18, 19)),
    (300, 305, (14, 16, 19)),
    (3095, 3095, (14, 16, 19)),
    (36, 36, (14, 15, 16, 17, 18, 19)),
    (38, 39, (14, 16, 19)),
    (50, 50, (12, 13, 14, 15, 16, 17, 18, 19)),
    (56, 58, (12, 13, 14, 15, 16, 17, 18, 19)),
    (63, 63, (12, 13, 14, 15, 16, 17, 18, 19)),
    (67, 67, (12, 13, 14, 15, 16, 17, 18, 19)),
)


def masked(text: str, *, kinds: Sequence[PiiKind], region: str | None = None) -> str:
    """The text with <EMAIL>, <IBAN>, <ID>, <CARD>, <IP> and <PHONE> where something of these kinds stood.

    `region` is the country whose national phone numbers count; without one only international ones (+…) do. The longest forms
    are looked for first, so that no part of an account number passes for a phone number.
    """
    if "email" in kinds and "@" in text:
        text = _EMAIL.sub("<EMAIL>", text)
    if not any(sign in text for sign in "0123456789:"):
        return text
    if "iban" in kinds:
        text = _without_ibans(text)
    if "chinese_id" in kinds:
        text = _CHINESE_ID.sub(_if(_is_chinese_id, "<ID>"), text)
    if "card" in kinds:
        text = _DIGITS.sub(_cards, text)
    if "ip" in kinds:
        text = _IPV6.sub(_ipv6, text)  # first, since an IPv4 address may be its end
        text = _IPV4.sub(_ipv4, text)
    if "phone" in kinds:
        text = _PHONE.sub(lambda match: _phone(match.group(), region), text)
    return text


def _if(is_one: Callable[[str], bool], tag: str) -> Callable[[re.Match[str]], str]:
    return lambda match: tag if is_one(match.group()) else match.group()


def _ipv4(match: re.Match[str]) -> str:
    before = match.string[max(0, match.start() - 12) : match.start()]
    return "<IP>" if _is_ip(match.group()) and not _NUMBERED.search(before) else match.group()


def _ipv6(match: re.Match[str]) -> str:
    """A colon behind an address ends a clause. Words such as abc::def have no digit, C++'s a::b1 and Gen 1:1::2 no long group."""
    text = match.group()
    address = text if text.endswith("::") else text.rstrip(":")
    is_long = "." in address or any(len(group) > 2 for group in address.split(":"))
    is_one = _is_ip(address) and any(map(str.isdigit, address)) and (is_long or address == "::1")
    return f"<IP>{text[len(address) :]}" if is_one else text


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_chinese_id(text: str) -> bool:
    """18 characters of GB 11643: region, date of birth, serial number, check digit by ISO 7064 MOD 11-2."""
    try:
        born = date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    except ValueError:
        return False
    return 1800 <= born.year <= 2100 and bool(mod_11_2.is_valid(text.upper()))


def _is_card(text: str) -> bool:
    """An issuer's first digits with one of its lengths, and Luhn's check digit."""
    digits = text.replace(" ", "").replace("-", "")
    fits = any(len(digits) in lengths and low <= int(digits[: len(str(low))]) <= high for low, high, lengths in _ISSUERS)
    return fits and len(set(digits)) > 1 and bool(luhn.is_valid(digits))


def _cards(match: re.Match[str]) -> str:
    """A run of groups of digits, with <CARD> for each card in it: an amount, an expiry date or a security code may stand beside.

    Part of a run counts only where it is grouped as cards are; else any table of numbers would have one sooner or later.
    """
    text = match.group()
    groups = [(each.start(), each.end()) for each in _GROUP.finditer(text)]
    if _GOES_ON.match(match.string, match.end()):  # the last group is the beginning of something else
        groups.pop()
    parts, position, first = [], 0, 0
    while first < len(groups):
        last = _last_of_card(text, groups, first)
        if last is None:
            first += 1
            continue
        parts += [text[position : groups[first][0]], "<CARD>"]
        position, first = groups[last][1], last + 1
    return "".join([*parts, text[position:]])


def _last_of_card(text: str, groups: Sequence[tuple[int, int]], first: int) -> int | None:
    """The group that ends the longest card which starts with group `first`; None where none does."""
    if first == 0 and _is_card(text[groups[0][0] : groups[-1][1]]):
        return len(groups) - 1
    lengths: list[int] = []
    found = None
    for last in range(first, min(first + 5, len(groups))):
        lengths.append(groups[last][1] - groups[last][0])
        num_digits = sum(lengths)
        if num_digits > 19 or lengths[0] < 4:
            break
        if num_digits >= 12 and _is_grouped_as_cards(lengths) and _is_card(text[groups[first][0] : groups[last][1]]):
            found = last
    return found


def _is_grouped_as_cards(lengths: Sequence[int]) -> bool:
    fours = all(length == 4 for length in lengths[:-1]) and lengths[-1] <= 4
    return len(lengths) == 1 or fours or tuple(lengths) in ((4, 6, 5), (4, 6, 4), (4, 3, 3, 3))


def _without_ibans(text: str) -> str:
    """Looks again behind the start of what was none: a code such as AB12 may stand before an account's number."""
    parts, position, start = [], 0, 0
    while match := _IBAN.search(text, start):
        end = _end_of_iban(match)
        start = match.start() + 4 if end is None else end
        if end is not None:
            parts += [text[position : match.start()], "<IBAN>"]
            position = end
    return "".join([*parts, text[position:]])


def _end_of_iban(match: re.Match[str]) -> int | None:
    """Where the longest beginning ends that is an IBAN, for words in capitals may stand after it; None where there is none."""
    text = match.group()
    for end in range(len(text), 14, -1):
        is_word_end = end == len(text) or text[end] in " -"
        if is_word_end and text[end - 1] not in " -" and _has_rest_1(text[:end]) and iban.is_valid(text[:end]):
            return match.start() + end
    return None


def _has_rest_1(text: str) -> bool:
    """ISO 7064 MOD 97-10, as a quick first look: the tables of countries are slow to ask."""
    signs = text.replace(" ", "").replace("-", "")
    return int("".join(str(int(sign, 36)) for sign in signs[4:] + signs[:4])) % 97 == 1


def _phone(text: str, region: str | None) -> str:
    """Candidates go through phonenumbers' own matcher, which knows what other numbers look like (dates, amounts). It finds none
    where a date or an amount stands behind the number: then groups are left out at the end."""
    is_international = text.lstrip("(").startswith("+")
    if (region is None and not is_international) or len(_GROUP.findall(text)) > 7 or _DATE.match(text):
        return text
    leniency = phonenumbers.Leniency.VALID if is_international else phonenumbers.Leniency.STRICT_GROUPING
    ends = [match.end() for match in _GROUP.finditer(text)]
    for end in ends[: -2 - _MAX_BEHIND : -1]:
        parts, position = [], 0
        for match in phonenumbers.PhoneNumberMatcher(text[:end], region, leniency=leniency, max_tries=50):
            parts += [text[position : match.start], "<PHONE>"]
            position = match.end
        if parts:
            return "".join([*parts, text[position:]])
    return text


@cache
def known_regions() -> frozenset[str]:
    """The countries whose phone numbers are known."""
    return frozenset(phonenumbers.SUPPORTED_REGIONS)
