"""Numbers that travel as one value come out as they went in."""

from __future__ import annotations

import math
import random

import pyarrow as pa
import pytest

from millrace.contracts.packed import LOOSE, PACKED, Packing

KINDS = {
    "tiny": pa.int8(),
    "small": pa.int16(),
    "int": pa.int32(),
    "big": pa.int64(),
    "single": pa.float32(),
    "real": pa.float64(),
}


def columns_of(names: dict[str, pa.DataType], num_rows: int, *, nulls: bool, seed: int = 0) -> dict[str, pa.Array]:
    draw = random.Random(seed)

    def value(kind: pa.DataType) -> float | int | None:
        if nulls and draw.random() < 0.2:
            return None
        if pa.types.is_floating(kind):
            return draw.choice([0.0, -0.0, math.inf, 1e-38, -3.25, draw.uniform(-1e6, 1e6)])
        half = 2 ** (kind.bit_width - 1)
        return draw.choice([-half, half - 1, 0, draw.randrange(-half, half)])

    return {name: pa.array([value(kind) for _ in range(num_rows)], kind) for name, kind in names.items()}


LISTS = pa.struct([("integers", pa.list_(pa.int64())), ("reals", pa.list_(pa.float64()))])


@pytest.mark.parametrize("num_columns", [1, 6, 63, 64, 65, 130])
@pytest.mark.parametrize("nulls", [False, True])
@pytest.mark.parametrize("num_rows", [0, 1, 37])
def test_what_is_packed_comes_out(num_columns: int, nulls: bool, num_rows: int) -> None:
    kinds = list(KINDS.values())
    types = {f"c{place}": kinds[place % len(kinds)] for place in range(num_columns)}
    packing = Packing(types)
    columns = columns_of(types, num_rows, nulls=nulls)
    rows = pa.RecordBatch.from_pydict({"text": pa.array([f"t{row}" for row in range(num_rows)]), **columns})
    packed = packing.packed(rows, came_typed=True)
    assert packed.schema.names == ["text", PACKED]
    assert packed.schema.equals(packing.schema(rows.schema))
    loose = pa.nulls(num_rows, LISTS)
    found = packing.unpack(
        pa.RecordBatch.from_pydict({**dict(zip(packed.schema.names, packed.columns, strict=True)), LOOSE: loose})
    )
    assert found.equals(rows)


def test_packed_and_loose_rows_keep_their_order_in_any_slice() -> None:
    packing = Packing(KINDS)
    whole = pa.RecordBatch.from_pydict(columns_of(KINDS, 50, nulls=True, seed=1))
    draw = random.Random(2)
    is_loose = [draw.random() < 0.4 for _ in range(50)]
    packed = packing.packed(whole, came_typed=True).column(PACKED)
    is_real = {name: pa.types.is_floating(kind) for name, kind in KINDS.items()}
    lists = [
        {
            "integers": [value for name, value in row.items() if not is_real[name]],
            "reals": [value for name, value in row.items() if is_real[name]],
        }
        for row in whole.to_pylist()
    ]
    mixed = pa.RecordBatch.from_pydict(
        {
            PACKED: pa.array(
                [None if loose else value for loose, value in zip(is_loose, packed.to_pylist(), strict=True)], pa.binary()
            ),
            LOOSE: pa.array([value if loose else None for loose, value in zip(is_loose, lists, strict=True)], LISTS),
        }
    )
    for first, end in ((0, 50), (7, 31), (49, 50), (12, 12)):
        assert packing.unpack(mixed.slice(first, end - first)).to_pydict() == whole.slice(first, end - first).to_pydict()


def test_rows_that_came_as_text_have_nothing_packed() -> None:
    rows = pa.RecordBatch.from_pydict({"word": pa.array(["a"]), "big": pa.array([None], pa.int64())})
    packed = Packing({"big": pa.int64()}).packed(rows, came_typed=False)
    assert packed.to_pydict() == {"word": ["a"], PACKED: [None]}


def test_columns_around() -> None:
    packing = Packing({"x": pa.int64(), "y": pa.float32()})
    assert packing.around(["a", "x", "b"]) == ["a", "b", PACKED, LOOSE]
    assert packing.around(["a", "b"]) == ["a", "b"]
    packing = Packing({"x": pa.int64(), "y": pa.float32(), "z": pa.int16(), "w": pa.float64()})
    assert packing.at == {
        "x": f"{LOOSE}.integers[0]",
        "y": f"{LOOSE}.reals[0]",
        "z": f"{LOOSE}.integers[1]",
        "w": f"{LOOSE}.reals[1]",
    }
    assert packing.loose({"x": "a", "y": "b", "z": "c", "w": "d"}) == (
        "named_struct('integers', cast(array(cast(a AS bigint), cast(c AS bigint)) AS array<bigint>), "
        "'reals', cast(array(cast(b AS double), cast(d AS double)) AS array<double>))"
    )
