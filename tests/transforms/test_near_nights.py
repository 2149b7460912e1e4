"""What stays of a group of near texts, night after night, without Spark."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.transforms.buckets import ALL_PAIRS
from millrace.transforms.near_nights import later_by_night

Text = tuple[int, int, frozenset[int]]
"""Group, night (0 stands), shingles."""


def later(texts: list[Text], batch_rows: int = 3) -> dict[str, str]:
    """row_id -> the one that stays for it; row_ids are places."""
    rows = [
        {
            "_group": bytes([group]),
            "_stands": night == 0,
            "_night": None if night == 0 else f"n{night}",
            "row_id": f"{place:04d}",
            "_content": repr(sorted(shingles)).encode(),
            "_shingles": np.array(sorted(shingles), "<u8").tobytes(),
        }
        for place, (group, night, shingles) in enumerate(texts)
    ]
    rows.sort(key=lambda row: (row["_group"], not row["_stands"], row["_night"] or "", row["row_id"]))
    types = {"_group": pa.binary(), "_stands": pa.bool_(), "_night": pa.string(), "row_id": pa.string()}
    schema = pa.schema({**types, "_content": pa.binary(), "_shingles": pa.binary()})
    batches = [pa.RecordBatch.from_pylist(rows[at : at + batch_rows], schema=schema) for at in range(0, len(rows), batch_rows)]
    found = [row for batch in later_by_night(batches, threshold=0.8) for row in batch.to_pylist()]
    assert len({row["row_id"] for row in found}) == len(found)
    return {row["row_id"]: row["_kept"] for row in found}


def expected(texts: list[Text]) -> dict[str, str]:
    """The same by joining sets of places."""
    found: dict[str, str] = {}
    for group in {text[0] for text in texts}:
        stays: list[int] = [place for place, text in enumerate(texts) if text[:2] == (group, 0)]
        for night in sorted({text[1] for text in texts if text[0] == group and text[1]}):
            own = [place for place, text in enumerate(texts) if text[:2] == (group, night)]
            parts = [{place} for place in (*stays, *own)]
            for left in (*stays, *own):
                near = {right for right in (*stays, *own) if _near(texts[left][2], texts[right][2]) and {left, right} & {*own}}
                touched = [part for part in parts if part & (near | {left})]
                parts = [part for part in parts if part not in touched] + [set().union(*touched)]
            for part in parts:
                first = min(part, key=lambda place: (place not in stays, place))
                found |= {f"{place:04d}": f"{first:04d}" for place in part if place in own and place != first}
                stays += [first] if first in own else []
    return found


def _near(left: Iterable[int], right: Iterable[int]) -> bool:
    return len({*left} & {*right}) / len({*left} | {*right}) >= 0.8


SHINGLES = st.sets(st.integers(0, 6), min_size=4, max_size=7).map(frozenset)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3), SHINGLES), max_size=14), st.integers(1, 5))
def test_what_stays(texts: list[Text], batch_rows: int) -> None:
    assert later(texts, batch_rows) == expected(texts)


def test_many_texts_of_a_night() -> None:
    """More than are all compared with each other: still one stays of each family, and of the next night none."""
    family = [(0, 1, frozenset([*range(40), 100 + number])) for number in range(3 * ALL_PAIRS)]
    found = later([*family, *((0, 2, shingles) for _, _, shingles in family[::2])], batch_rows=50)
    assert set(found.values()) == {"0000"}
    assert len(found) == len(family) - 1 + len(family[::2])
