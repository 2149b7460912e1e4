# ruff: noqa: RUF001 (signs of other scripts are meant)
"""Masks: what is found, and what only looks like it."""

from __future__ import annotations

import time
from typing import get_args

import pytest

from millrace.config.texts import PiiKind
from millrace.transforms.private import masked

ALL = get_args(PiiKind)
SAME = ""


@pytest.mark.parametrize(
    ("text", "region", "expected"),
    [
        ("mail a.b+c@ex-ample.co.uk, now", None, "mail <EMAIL>, now"),
        ("邮箱：zhang@qq.com，谢谢", None, "邮箱：<EMAIL>，谢谢"),
        ("x@y, @name, a@b.c, a b@", None, SAME),
        ("card 4111 1111 1111 1111, 5500-0000-0000-0004, 378282246310005", None, "card <CARD>, <CARD>, <CARD>"),
        ("order 4111111111111112, 1234567812345670", None, SAME),  # Luhn fails; no issuer begins with 1
        ("0000000000000000 and 41111111111111111111", None, SAME),
        ("card 4111 1111 1111 1111 123, 4111111111111111 12/27", None, "card <CARD> 123, <CARD> 12/27"),
        (
            "2 x, qty 2 4111-1111-1111-1111 and 4111 1111 1111 1111 5500 0000 0000 0004 9",
            None,
            "2 x, qty 2 <CARD> and <CARD> <CARD> 9",
        ),
        ("1234567890 3782 822463 10005 1234567890", None, "1234567890 <CARD> 1234567890"),
        ("4111 1111 1111 1111a 4111111111111111.5 4111111111111111-x", None, SAME),
        ("9 41 1111 1111 1111 11 11", None, SAME),  # part of a run, and not grouped as cards are
        ("mail a@b.com-- and <a@b.co>", None, "mail <EMAIL>-- and <<EMAIL>>"),
        ("code AB12 GB82 WEST 1234 5698 7654 32", None, "code AB12 <IBAN>"),
        ("身份证11010519491231002X。", None, "身份证<ID>。"),
        ("身份证110105194912310021", None, SAME),  # the check digit is wrong
        ("110105194913310025", None, SAME),  # month 13
        ("IBAN DE89 3704 0044 0532 0130 00 AND MORE", None, "IBAN <IBAN> AND MORE"),
        ("GB82WEST12345698765432, GB83WEST12345698765432", None, "<IBAN>, GB83WEST12345698765432"),
        ("from 192.168.1.1, 2001:db8::1, ::1 and fe80::1ff:fe23:4567:890a.", None, "from <IP>, <IP>, <IP> and <IP>."),
        ("999.1.1.1 v1.2.3.4.5 12:30:45 std::cout a::b 10:20 3.14", None, SAME),
        ("call +1 650-253-0000 or +86 138 0013 8000", None, "call <PHONE> or <PHONE>"),
        ("电话13800138000。", "CN", "电话<PHONE>。"),
        ("电话13800138000。", None, SAME),
        ("(650) 253-0000 on 2020-01-02 12:30, 12/31/2020", "US", "<PHONE> on 2020-01-02 12:30, 12/31/2020"),
        ("+1 415 555 2671 2024-05-06 and +44 20 7946 0958 2023", None, "<PHONE> 2024-05-06 and <PHONE> 2023"),
        ("+86 13800138000 2024年, +1 415 555 2671 94103 CA, +14155552671-1", None, "<PHONE> 2024年, <PHONE> 94103 CA, <PHONE>-1"),
        ("2001:db8::1: refused, fe80::1: up; mail _foo@x.com", None, "<IP>: refused, <IP>: up; mail <EMAIL>"),
        ("version 1.2.3.4, section 3.1.2.4, § 1.2.3.4, a::1, Gen 1:1::2, Ada:: Cafe::Bed ::add", None, SAME),
        ("from ::ffff:1.2.3.4 and 1.2.3.4", None, "from <IP> and <IP>"),
        ("1234567890, 3.14159265358979, 1 2 3 4 5 6 7 8 9 10", None, SAME),
        ("", None, SAME),
        ("😀 没有", None, SAME),
    ],
)
def test_true_and_false_positives(text: str, region: str | None, expected: str) -> None:
    assert masked(text, kinds=ALL, region=region) == (expected or text)


def test_only_the_kinds_that_are_asked_for() -> None:
    assert masked("a@b.com 192.168.1.1", kinds=["ip"]) == "a@b.com <IP>"


@pytest.mark.parametrize(
    "text",
    [
        "1 " * 100_000 + "a",
        "1" * 200_000 + "a",
        "5 " * 100_000,
        "4111 " * 40_000,
        "AB12 " * 40_000,
        "AB12" * 50_000,
        "a@" * 100_000,
        "a." * 100_000 + "@",
        "1." * 100_000,
        ":1" * 100_000,
        "(1" * 100_000,
    ],
    ids=lambda text: text[:5],
)
def test_texts_made_to_take_for_ever_do_not(text: str) -> None:
    started = time.monotonic()
    masked(text, kinds=ALL, region="US")
    assert time.monotonic() - started < 30.0  # a hang, not a speed
