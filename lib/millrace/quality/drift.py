"""Has a column changed? Three measures of two profiles over the same cells: NumPy and SciPy only.

Cells of a column with few values are its values as the reference has them, all others, and NULL. Cells of numbers (and of the
lengths of texts and bytes) lie between the reference's deciles, with one below its smallest and one above its largest; NaN,
infinite and NULL have cells of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc

from millrace.config.drift import DriftConfig
from millrace.errors import QualityError
from millrace.quality.bins import counts_between, quantile_bin
from millrace.quality.profile import TIMES, ColumnProfile, Profile

MAX_CATEGORIES = {"string": 200, "boolean": 2}
MAX_WHOLE_CATEGORIES = 50
"""Distinct values up to which a column is told by its values; of integers and dates, by these fewer."""
_NUM_NAMED = 50
_LEAST_SHARE = 1e-4
"""An empty cell counts as this share in a population stability index, which would else be infinite."""
_LEAST_EXPECTED = 5.0
_MANY = 15.0
"""Rows where fewer than 5 are expected: chance does not bring so many."""

Counts = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Drift:
    """One column's. `value` is None where there are too few rows to say anything."""

    column: str
    method: str
    value: float | None
    limit: float
    drifted: bool


def measure(reference: Profile, found: Profile, *, config: DriftConfig, keys: Collection[str] = ()) -> tuple[Drift, ...]:
    """Each column that both profiles have, in the reference's order. `keys`, which move on from night to night as times do, count
    only where the config names them."""
    results = []
    for name, before in reference.columns.items():
        after = found.columns.get(name)
        if after is None or after.type != before.type or not _counts(name, before, config, keys):
            continue
        value = None
        if min(before.num_rows, after.num_rows) >= config.min_rows:
            value = distance(*cells(before, after), method=config.method)
        limit = config.actual_limit
        drifted = value is not None and (value < limit if config.method == "chi_square" else value > limit)
        results.append(Drift(name, config.method, value, limit, drifted))
    return tuple(results)


def check_drift(results: Sequence[Drift], *, config: DriftConfig, stage: str, where: str) -> str | None:
    """A sentence about the columns that have drifted, None where none has.

    Raises QualityError where on_drift is stop. `where` names the reference.
    """
    drifted = [each for each in results if each.drifted]
    if not drifted:
        return None
    listed = ", ".join(f"{each.column} {each.value:.3g}" for each in drifted)
    side = "at least" if config.method == "chi_square" else "at most"
    if config.on_drift == "stop":
        raise QualityError(
            stage,
            expected=f"columns like those of {where} ({config.method} {side} {config.actual_limit:g}, quality.drift)",
            found=listed,
            remedy="Mend the source, fit anew (on_drift: refit), raise the limit, or exclude the column.",
        )
    return f"drift against {where}: {config.method} {side} {config.actual_limit:g} expected, {listed} found"


def cells(reference: ColumnProfile, found: ColumnProfile) -> tuple[Counts, Counts]:
    """Rows in each cell, (k,) each. Both profiles are of one type."""
    if is_categorical(reference):
        named = [value for value, _ in reference.top(_NUM_NAMED)]
        return _by_value(reference, named), _by_value(found, named)
    if not reference.bins:  # nested, or never a number
        return _there_or_null(reference), _there_or_null(found)
    deciles = {quantile_bin(reference.bins, share / 10) for share in range(1, 10)}
    ends = sorted({min(reference.bins) - 1, *deciles, max(reference.bins)})
    return _by_number(reference, ends), _by_number(found, ends)


def is_categorical(reference: ColumnProfile) -> bool:
    """Whether a column is told by its values, and not by its numbers: what the reference says holds for both."""
    most = MAX_CATEGORIES.get(reference.type, MAX_WHOLE_CATEGORIES)
    return reference.values is not None and len(reference.values) <= most


def distance(reference: Counts, found: Counts, *, method: str) -> float:
    """How far two columns of counts, (k,) each, are apart. Both have at least one row.

    An index or a divergence is that of the cells with small ones made one, less what rows drawn alike differ by on average: small
    nights would else drift by chance.
    """
    if method == "chi_square":
        return chi_square(reference, found)
    table = pooled(reference, found, with_next=False)
    measured = {"psi": stability_index, "jensen_shannon": jensen_shannon}[method](*table)
    by_chance = (np.count_nonzero(table.sum(axis=0)) - 1) * float(np.sum(1.0 / table.sum(axis=1)))
    return max(0.0, measured - (by_chance if method == "psi" else by_chance / (8.0 * np.log(2.0))))


def stability_index(reference: Counts, found: Counts) -> float:
    """The population stability index: sum of (p - q) ln(p / q), of shares of at least 0.0001.

    Of rows drawn alike it is (k - 1) (1 / n + 1 / m) on average (Yurdakul: Statistical properties of population stability index,
    2018), and the divergence below an eighth of that, in nats.
    """
    before, after = (np.maximum(_shares(counts), _LEAST_SHARE) for counts in (reference, found))
    both_empty = (reference == 0) & (found == 0)
    return float(np.sum(np.where(both_empty, 0.0, (after - before) * np.log(after / before))))


def jensen_shannon(reference: Counts, found: Counts) -> float:
    """The Jensen-Shannon divergence in bits (Lin, 1991): 0 for equal shares, 1 for none in common."""
    before, after = _shares(reference), _shares(found)
    middle = (before + after) / 2
    return float(max(0.0, (_relative_entropy(before, middle) + _relative_entropy(after, middle)) / 2))


def chi_square(reference: Counts, found: Counts) -> float:
    """The p-value of Pearson's test that both are drawn alike.

    Cells in which fewer than 5 rows are expected on either side are one cell, with the next smallest where that is still too few.
    """
    table = pooled(reference, found)
    if table.shape[1] < 2:
        return 1.0
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    return float(chdtrc(table.shape[1] - 1, np.sum((table - expected) ** 2 / expected)))


def pooled(reference: Counts, found: Counts, *, with_next: bool = True) -> npt.NDArray[np.float64]:
    """(2, cells): the counts with small cells made one; the next smallest goes with them where they are still too few.

    A cell is small where few rows are expected of the smaller side, and that has few: what has come or gone stays by itself.
    """
    table = np.stack([reference, found]).astype(np.float64)
    rows = table.sum(axis=1)
    expected = table.sum(axis=0) * (rows.min() / rows.sum())
    is_small = (expected < _LEAST_EXPECTED) & (table[rows == rows.min()].max(axis=0) < _MANY)
    if not is_small.any():
        return table
    others = np.flatnonzero(expected >= _LEAST_EXPECTED)
    if with_next and others.size and expected[is_small].sum() < _LEAST_EXPECTED:
        is_small[others[np.argmin(expected[others])]] = True
    return np.concatenate([table[:, is_small].sum(axis=1, keepdims=True), table[:, ~is_small]], axis=1)


def _counts(name: str, column: ColumnProfile, config: DriftConfig, keys: Collection[str]) -> bool:
    wanted = column.type not in TIMES and name not in keys if config.include is None else name in config.include
    return wanted and name not in config.exclude


def _by_value(column: ColumnProfile, named: Sequence[str]) -> Counts:
    values = column.values or {}  # a column that has come to have too many is all others
    known = [values.get(value, 0) for value in named]
    return np.array([*known, column.num_rows - column.num_nulls - sum(known), column.num_nulls], np.float64)


def _by_number(column: ColumnProfile, ends: Sequence[int]) -> Counts:
    numbers = counts_between(column.bins or {}, ends)
    return np.array([*numbers, column.num_nans, column.num_infinite, column.num_nulls], np.float64)


def _there_or_null(column: ColumnProfile) -> Counts:
    return np.array([column.num_rows - column.num_nulls, column.num_nulls], np.float64)


def _shares(counts: Counts) -> Counts:
    return np.divide(counts, counts.sum(), dtype=np.float64)


def _relative_entropy(first: Counts, second: Counts) -> float:
    there = first > 0
    return float(np.sum(first[there] * np.log2(first[there] / second[there])))
