"""The figures of the train split that steps of `clean` need: collected once, kept from night to night."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from millrace.config.cleaning import CleanStep
from millrace.fit.collect import collect_statistics
from millrace.fit.statistics import ColumnStatistics, Need, Statistics, merge_needs
from millrace.transforms.cleaning import Statistic, statistics_of


def fit_cleaning(
    rows: DataFrame, steps: Sequence[CleanStep], standing: Statistics | None
) -> tuple[Statistics, Mapping[Statistic, Any]]:
    """The statistics, those that stand or of the kept rows of the train split, and each figure that the steps ask for.

    All of them are of the rows as they are before the first of these steps.
    """
    wanted = [figure for step in steps for figure in statistics_of(step)]
    if standing is None:
        train = rows.filter(F.col("_rule").isNull() & (F.col("split") == "train"))
        standing = collect_statistics(train, needs=merge_needs(map(_need, wanted)))
    return standing, {figure: figure_of(figure, standing[figure.column]) for figure in wanted}


def figure_of(figure: Statistic, known: ColumnStatistics) -> Any:
    """One figure; None where the train split has no value in the column."""
    if known.num_rows == known.num_missing:
        return None
    if figure.kind == "quantile":
        assert figure.at is not None
        return known.quantile(figure.at)
    if figure.kind == "mode":
        return known.mode
    assert known.moments is not None
    return known.moments.mean if figure.kind == "mean" else known.moments.deviation


def _need(figure: Statistic) -> Need:
    return Need(
        column=figure.column,
        moments=figure.kind in ("mean", "deviation"),
        quantiles=figure.kind == "quantile",
        values=figure.kind == "mode",
    )
