"""Drift: known values, SciPy's, the laws of each measure, and what a column's cells are."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency

from millrace.config.drift import DriftConfig
from millrace.errors import QualityError
from millrace.quality.drift import (
    Drift,
    cells,
    check_drift,
    chi_square,
    distance,
    jensen_shannon,
    measure,
    pooled,
    stability_index,
)
from millrace.quality.profile import Profile
from millrace.quality.profiling import profile_array

COUNTS = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), min_size=2, max_size=8)
METHODS = ("psi", "jensen_shannon", "chi_square")


def counts(*numbers: float) -> Any:
    return np.array(numbers, np.float64)


def profile_of(kind: str, **columns: list[Any]) -> Profile:
    types = {"string": pa.string(), "int": pa.int32(), "double": pa.float64(), "array<int>": pa.list_(pa.int32())}
    types |= {"timestamp": pa.timestamp("us", "UTC"), "boolean": pa.bool_()}
    return Profile({name: profile_array(pa.array(values, types[kind]), kind) for name, values in columns.items()})


def test_known_values() -> None:
    before, after = counts(50, 50), counts(25, 75)
    assert stability_index(before, after) == pytest.approx(0.25 * math.log(1.5) + 0.25 * math.log(2))
    assert stability_index(counts(10, 0), counts(0, 10)) == pytest.approx(2 * (1 - 1e-4) * math.log(1e4))
    assert jensen_shannon(counts(3, 0), counts(0, 8)) == 1.0
    assert jensen_shannon(before, after) == pytest.approx(0.048794, abs=1e-6)
    assert chi_square(before, after) == pytest.approx(chi2_contingency([before, after], correction=False).pvalue)


@settings(deadline=None)
@given(pairs=COUNTS)
def test_scipy_says_the_same(pairs: list[tuple[int, int]]) -> None:
    before, after = np.array(pairs, np.float64).T
    assume(before.sum() > 0 and after.sum() > 0)
    assert jensen_shannon(before, after) == pytest.approx(jensenshannon(before, after, base=2) ** 2, abs=1e-9)
    table = pooled(before, after)
    assert table.sum(axis=1).tolist() == [before.sum(), after.sum()]
    if table.shape[1] > 1:
        result = chi2_contingency(table, correction=False)
        few = result.expected_freq.min(axis=0) < 5.0 - 1e-9
        assert not few.any() or table[:, few].max() >= 15.0
        assert chi_square(before, after) == pytest.approx(result.pvalue, abs=1e-12)
    else:
        assert chi_square(before, after) == 1.0


@settings(deadline=None)
@given(pairs=COUNTS, factor=st.integers(2, 9))
def test_laws(pairs: list[tuple[int, int]], factor: int) -> None:
    before, after = np.array(pairs, np.float64).T
    assume(before.sum() > 0 and after.sum() > 0)
    assert stability_index(before, before) == jensen_shannon(before, before) == 0.0
    assert chi_square(before, before) == pytest.approx(1.0)
    for method in METHODS:
        there = distance(before, after, method=method)
        assert there >= 0.0
        assert distance(after, before, method=method) == pytest.approx(there, abs=1e-12)
        order = np.argsort(before, kind="stable")
        assert distance(before[order], after[order], method=method) == pytest.approx(there, abs=1e-12)
    for measured in (stability_index, jensen_shannon):  # of shares, not of counts
        assert measured(before * factor, after) == pytest.approx(measured(before, after), abs=1e-12)
    assert jensen_shannon(before, after) <= 1.0 + 1e-12


def test_cells_of_values_are_the_references() -> None:
    before = profile_of("string", x=["a"] * 3 + ["b", None]).columns["x"]
    after = profile_of("string", x=["b", "new", "newer", None, None]).columns["x"]
    assert [each.tolist() for each in cells(before, after)] == [[3, 1, 0, 1], [0, 1, 2, 2]]  # a, b, others, NULL
    many = profile_of("string", x=[f"v{number}" for number in range(2000)]).columns["x"]
    assert [each.tolist() for each in cells(before, many)] == [[3, 1, 0, 1], [0, 0, 2000, 0]]


def test_cells_of_numbers_lie_between_the_references_deciles() -> None:
    before = profile_of("double", x=[float(number) for number in range(1, 101)]).columns["x"]
    after = profile_of("double", x=[-1.0, 5.0, 100.0, 1e9, float("nan"), float("-inf"), None]).columns["x"]
    first, second = cells(before, after)
    assert first.tolist() == [0, *[10] * 10, 0, 0, 0, 0]
    assert second.tolist() == [1, 1, *[0] * 8, 1, 1, 1, 1, 1]


def test_a_constant_that_changes_has_drifted() -> None:
    before, after = (profile_of("double", x=[number] * 100) for number in (5.0, 3.0))
    assert measure(before, after, config=DriftConfig())[0].drifted
    assert not measure(before, before, config=DriftConfig())[0].drifted


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("string", ["some text " * 30] * 100, ["short"] * 100),  # by length
        ("double", [None] * 100, [1.0] * 100),
        ("double", [1.0] * 100, [None] * 100),
        ("array<int>", [[1]] * 100, [None] * 100),
        ("boolean", [True] * 100, [True, False] * 50),
        ("int", [1, 2] * 50, [1, 3] * 50),
        ("int", list(range(1000)), [number + 500 for number in range(1000)]),
        ("string", [f"v{number % 20}" for number in range(10_000)], [None] * 100),  # in each cell few are expected
        ("string", ["a"] * 9_000 + [f"v{number % 30}" for number in range(1_000)], ["a"] * 700 + ["new"] * 300),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_all_kinds_of_columns_drift(kind: str, before: list[Any], after: list[Any], method: Any) -> None:
    config = DriftConfig(method=method)
    (changed,) = measure(profile_of(kind, x=before), profile_of(kind, x=after), config=config)
    (same,) = measure(profile_of(kind, x=before), profile_of(kind, x=before * 3), config=config)
    assert (changed.drifted, same.drifted) == (True, False)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("num_values", [12, 26, 50])
def test_small_nights_of_the_same_rows_hardly_ever_drift(method: Any, num_values: int) -> None:
    draw = np.random.default_rng(3)
    shares = draw.dirichlet(np.ones(num_values))
    config, num_drifted = DriftConfig(method=method), 0
    for _ in range(200):
        before, after = (draw.multinomial(rows, shares).astype(np.float64) for rows in (100_000, 100))
        found = distance(before, after, method=method)
        num_drifted += found < config.actual_limit if method == "chi_square" else found > config.actual_limit
    assert num_drifted <= 4


def test_which_columns_count() -> None:
    columns = {"a": [1] * 100, "b": [2] * 100, "c": [3] * 100}
    before, after = profile_of("int", **columns), profile_of("int", **{**columns, "a": [9] * 100})
    when = profile_of("timestamp", t=[10**15] * 100)
    before, after = (Profile({**each.columns, **when.columns}) for each in (before, after))

    def names(**options: Any) -> list[str]:
        return [each.column for each in measure(before, after, config=DriftConfig(**options))]

    assert names() == ["a", "b", "c"]
    assert [each.column for each in measure(before, after, config=DriftConfig(), keys=["b"])] == ["a", "c"]
    assert [each.column for each in measure(before, after, config=DriftConfig(include=("b",)), keys=["b"])] == ["b"]
    assert names(exclude=("b",)) == ["a", "c"]
    assert names(include=("c", "t", "nowhere")) == ["c", "t"]
    assert measure(before, after, config=DriftConfig(min_rows=101, include=("a",))) == (Drift("a", "psi", None, 0.2, False),)


def test_what_is_said() -> None:
    before, after = profile_of("int", a=[1] * 100, b=[1] * 100), profile_of("int", a=[2] * 100, b=[1] * 100)
    config = DriftConfig(on_drift="stop")
    results = measure(before, after, config=config)
    assert [each.drifted for each in results] == [True, False]
    with pytest.raises(QualityError) as caught:
        check_drift(results, config=config, stage="preprocess", where="silver/tiny version 3")
    assert str(caught.value) == (
        "preprocess: expected columns like those of silver/tiny version 3 (psi at most 0.2, quality.drift); found a 18.4. "
        "Mend the source, fit anew (on_drift: refit), raise the limit, or exclude the column."
    )
    config = DriftConfig(method="chi_square", limit=0.01)
    warned = check_drift(measure(before, after, config=config), config=config, stage="preprocess", where="version 3")
    assert warned == "drift against version 3: chi_square at least 0.01 expected, a 2.09e-45 found"
    assert check_drift(measure(before, before, config=config), config=config, stage="preprocess", where="version 3") is None


def test_limits_that_cannot_be() -> None:
    with pytest.raises(ValidationError, match="limit of chi_square lies between 0 and 1, and 5 does not"):
        DriftConfig(method="chi_square", limit=5)
    assert DriftConfig(limit=5).actual_limit == 5


DATA = Path(os.environ.get("MILLRACE_DATA", Path(__file__).parents[3] / "shared" / "data"))
NAMES = ["age", "workclass", "weight", "education", "years", "marital", "occupation", "relationship", "race", "sex"]
NAMES += ["gain", "loss", "hours", "country", "income"]
WHOLE = ("age", "weight", "years", "gain", "loss", "hours")


@pytest.mark.skipif(not (DATA / "adult").is_dir(), reason="the census is not in $MILLRACE_DATA/adult")
def test_the_census_is_drawn_alike_in_train_and_test_and_differs_between_men_and_women() -> None:
    types = {name: pa.int32() if name in WHOLE else pa.string() for name in NAMES}
    tables = [
        pa.csv.read_csv(
            DATA / "adult" / f"adult-{part}.csv",
            read_options=pa.csv.ReadOptions(column_names=NAMES),
            convert_options=pa.csv.ConvertOptions(column_types=types, null_values=["?", " ?"], strings_can_be_null=True),
        )
        for part in ("train", "test")
    ]

    def profiled(table: pa.Table) -> Profile:
        kinds = {name: "int" if name in WHOLE else "string" for name in NAMES}
        return Profile({name: profile_array(table.column(name).combine_chunks(), kind) for name, kind in kinds.items()})

    train, test = map(profiled, tables)
    for method, limit in (("psi", 0.01), ("jensen_shannon", 0.002), ("chi_square", 1e-4)):
        results = measure(train, test, config=DriftConfig(method=method, limit=limit, exclude=("income",)))  # type: ignore[arg-type]
        assert [each.column for each in results if each.drifted] == []
        assert len(results) == 14
    sex = pc.utf8_trim_whitespace(tables[0].column("sex"))
    men, women = (profiled(tables[0].filter(pc.equal(sex, name))) for name in ("Male", "Female"))
    drifted = {each.column for each in measure(men, women, config=DriftConfig()) if each.drifted}
    assert {"sex", "relationship", "marital", "occupation", "hours"} <= drifted
    assert not {"weight", "years", "country", "education"} & drifted
