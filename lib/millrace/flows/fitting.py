"""What is fitted on the train split of silver: encoders and tokenizers. It stands until it has to be fitted anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from millrace import observe
from millrace.contracts.features import FittedFeatures
from millrace.contracts.tokenizer import SavedTokenizer
from millrace.fit.collect import statistics_of_train
from millrace.fit.features import fit_features, needs_of
from millrace.fit.state import FittedState
from millrace.fit.statistics import Statistics
from millrace.fit.tokenizer import fit_tokens
from millrace.flows.context import Context


@dataclass(frozen=True)
class Fitted:
    """What encodes silver's rows."""

    features: FittedFeatures | None = None
    tokenizers: Mapping[str, SavedTokenizer] = field(default_factory=dict)
    statistics: Statistics | None = None
    """Of the train rows of all nights: what the next fit starts from."""


def fit(
    context: Context, silver: DataFrame, *, nights: Sequence[str], standing: FittedState | None, refit: bool, recount: bool
) -> Fitted:
    """What stands, with the statistics of `nights` added; or fitted anew, where nothing stands or `refit`.

    silver: the rows of all nights. `nights`: those that the standing statistics do not have. `recount`: these have rows that are
    gone, and are made anew.
    """
    with observe.timed("fit"):
        statistics = None
        if context.config.fitted_features:
            known = None if standing is None or recount else standing.statistics
            new = silver if known is None else silver.filter(F.col("_night").isin(list(nights)))
            statistics = statistics_of_train(new, needs=needs_of(context.config.fitted_features))
            statistics = statistics if known is None else known + statistics
        return fit_from(context, statistics, silver, standing=standing, refit=refit)


def fit_from(
    context: Context, statistics: Statistics | None, rows: DataFrame, *, standing: FittedState | None, refit: bool
) -> Fitted:
    """`fit` with the statistics of all train rows; `rows` are looked at where a tokenizer is fitted on them."""
    if standing is not None and not refit:
        return Fitted(standing.features, standing.tokenizers, statistics)
    features = None if statistics is None else fit_features(context.config.fitted_features, statistics, context.silver)
    return Fitted(features, _tokenizers(context, rows), statistics)


def _tokenizers(context: Context, silver: DataFrame) -> dict[str, SavedTokenizer]:
    train = silver.filter(F.col("split") == "train")
    boundary = context.config.blocks.boundary_token if context.config.blocks else None
    return {
        feature.column: fit_tokens(train, feature=feature, boundary_token=boundary) for feature in context.config.token_features
    }
