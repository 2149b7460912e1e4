"""From the `features` section and the statistics of the train split to fitted features, which need no data any more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from millrace.config.encoding import (
    CrossFeature,
    DatetimeFeature,
    FittableFeature,
    HashFeature,
    IndexFeature,
    LogFeature,
    MinmaxFeature,
    NumberFeatures,
    OneHotFeature,
    RobustFeature,
    ScaleFeature,
    ZscoreFeature,
)
from millrace.contracts.features import (
    Block,
    CrossBlock,
    DatetimeBlock,
    FittedFeatures,
    HashBlock,
    InputColumn,
    NumberBlock,
    VocabularyBlock,
)
from millrace.contracts.inputs import NULL_TEXT, UNKNOWN_INTEGER, UNKNOWN_TEXT, input_type
from millrace.contracts.table import TableContract
from millrace.errors import ConfigError
from millrace.fit.statistics import ColumnStatistics, Need, Statistics
from millrace.fit.time_zone import changes_of

MAX_WIDTH = 65_536
"""Of the float32 vector: 256 KiB a row."""
_LEAST_SCALE = 1e-30
_LOG_SHARE = 1e-8


def needs_of(features: Iterable[FittableFeature | ScaleFeature]) -> tuple[Need, ...]:
    """What the features have to know of the train split."""
    needs = []
    for feature in features:
        if isinstance(feature, NumberFeatures):
            impute = feature.impute
            needs += [
                Need(
                    column=column,
                    moments=isinstance(feature, ZscoreFeature) or impute == "mean",
                    log_moments=isinstance(feature, LogFeature),
                    quantiles=isinstance(feature, RobustFeature) or impute == "median",
                    values=impute == "mode",
                )
                for column in feature.columns
            ]
        elif isinstance(feature, OneHotFeature | IndexFeature):
            needs += [Need(column=column, values=True) for column in feature.columns]
    return tuple(needs)


def fit_features(
    features: Sequence[FittableFeature | ScaleFeature], statistics: Statistics, contract: TableContract
) -> FittedFeatures:
    """The fitted features, in the order of the section; `scale` is left out: a tensor of bytes goes to the model as it is.

    Raises ConfigError for a column that the contract does not have or whose type the encoder does not take.
    """
    blocks: list[Block] = []
    types: dict[str, str] = {}
    for feature in features:
        if isinstance(feature, ScaleFeature):
            continue
        for column in feature.columns:
            types[column] = checked_type(feature, column, contract)
        blocks += _blocks(feature, statistics, contract)
    inputs = tuple(InputColumn(name=name, dtype=input_type(name, kind)) for name, kind in types.items())
    fitted = FittedFeatures(inputs=inputs, blocks=tuple(blocks))
    if fitted.width > MAX_WIDTH:
        widest = max(blocks, key=lambda block: block.width)
        raise ConfigError(
            "features",
            expected=f"at most {MAX_WIDTH} numbers a row",
            found=f"{fitted.width}, of which {widest.width} are of {', '.join(widest.columns)}",
            remedy="Take encode: index, hash with fewer buckets, min_count or max_size.",
        )
    return fitted


def _blocks(feature: FittableFeature, statistics: Statistics, contract: TableContract) -> list[Block]:
    if isinstance(feature, NumberFeatures):
        return [_numbers(feature, statistics)]
    if isinstance(feature, OneHotFeature | IndexFeature):
        return [_vocabulary(feature, column, statistics[column], contract) for column in feature.columns]
    if isinstance(feature, HashFeature):
        options = {"buckets": feature.buckets, "seed": feature.seed, "output": feature.output}
        return [HashBlock.model_validate({"columns": (column,), **options}) for column in feature.columns]
    if isinstance(feature, CrossFeature):
        return [
            CrossBlock(columns=feature.columns, buckets=feature.buckets, seed=feature.seed, output=feature.output),
        ]
    changes, offsets = changes_of(feature.time_zone)
    return [
        DatetimeBlock(
            columns=(column,),
            unit="day" if contract.columns[column].type == "date" else "microsecond",
            parts=feature.parts,
            changes=changes,
            offsets=offsets,
        )
        for column in feature.columns
    ]


def _numbers(feature: NumberFeatures, statistics: Statistics) -> NumberBlock:
    known = [statistics[column] for column in feature.columns]
    places = [_place(feature, each) for each in known]
    return NumberBlock(
        columns=feature.columns,
        fill=tuple(_fill(feature, each) for each in known),
        log=isinstance(feature, LogFeature),
        offset=tuple(offset for offset, _, _ in places),
        scale=tuple(scale if scale >= _least_scale(feature, offset) else 1.0 for offset, scale, _ in places),
        shift=tuple(shift for _, _, shift in places),
        indicator=feature.indicator,
    )


def _least_scale(feature: NumberFeatures, offset: float) -> float:
    """A column with less width counts as constant.

    TensorFlow takes floats below 2^-126 and doubles below 2^-1022 for 0. And a logarithm's last bits are not the same in NumPy
    and in TensorFlow.
    """
    return max(_LEAST_SCALE, _LOG_SHARE * abs(offset)) if isinstance(feature, LogFeature) else _LEAST_SCALE


def _place(feature: NumberFeatures, known: ColumnStatistics) -> tuple[float, float, float]:
    """(offset, scale, shift) of one column."""
    if isinstance(feature, ZscoreFeature):
        assert known.moments is not None
        return known.moments.mean, known.moments.deviation, 0.0
    if isinstance(feature, LogFeature) and feature.then == "zscore":
        assert known.log_moments is not None
        return known.log_moments.mean, known.log_moments.deviation, 0.0
    if isinstance(feature, MinmaxFeature):
        low, high = feature.range
        smallest, greatest = known.minimum or 0.0, known.maximum or 0.0
        # Halves, so that the width of all of float64 is no infinity.
        return smallest, (greatest / 2 - smallest / 2) / ((high - low) / 2), low
    if isinstance(feature, RobustFeature):
        return known.quantile(0.5), known.quantile(feature.quantiles[1]) - known.quantile(feature.quantiles[0]), 0.0
    return 0.0, 1.0, 0.0


def _fill(feature: NumberFeatures, known: ColumnStatistics) -> float | None:
    """What stands for a missing number. 0 where the train split has none at all."""
    if feature.impute == "none":
        return None
    if feature.impute == "mean":
        assert known.moments is not None
        return known.moments.mean
    if feature.impute == "median":
        return known.quantile(0.5)
    if feature.impute == "mode":
        return float(known.mode or 0.0)
    return feature.impute


def _vocabulary(
    feature: OneHotFeature | IndexFeature, column: str, known: ColumnStatistics, contract: TableContract
) -> VocabularyBlock:
    assert known.values is not None
    reserved = (NULL_TEXT, UNKNOWN_TEXT, UNKNOWN_INTEGER)
    frequent = [value for value, count in known.values.counts if count >= feature.min_count and value not in reserved]
    values = tuple(frequent[: feature.max_size])
    is_one_hot = isinstance(feature, OneHotFeature)
    return VocabularyBlock.model_validate(
        {
            "columns": (column,),
            "texts" if known.kind == "text" else "integers": values,
            "output": "one_hot" if is_one_hot else "ids",
            "unknown_slot": isinstance(feature, OneHotFeature) and feature.unknown == "slot",
            "missing_slot": isinstance(feature, OneHotFeature)
            and feature.missing == "slot"
            and contract.columns[column].nullable,
        }
    )


def checked_type(feature: FittableFeature, column: str, contract: TableContract) -> str:
    """The column's type in the contract."""
    if column not in contract.columns:
        raise ConfigError(
            "features",
            expected=f"a column of the contract {contract.name}",
            found=f"{column}",
            remedy=f"It has {', '.join(contract.columns)}.",
        )
    found = contract.columns[column].type
    if isinstance(feature, NumberFeatures):
        legal: tuple[str, ...] = ("boolean", "tinyint", "smallint", "int", "bigint", "float", "double")
    elif isinstance(feature, DatetimeFeature):
        needs_time = "hour" in feature.parts or feature.time_zone != "UTC"
        legal = ("timestamp",) if needs_time else ("date", "timestamp")
    else:
        legal = ("string", "boolean", "tinyint", "smallint", "int", "bigint", "date", "timestamp")
    if found not in legal:
        raise ConfigError(
            "features",
            expected=f"a column of type {', '.join(legal)} for encode: {feature.encode}",
            found=f"{column}, which is a {found}",
            remedy="Choose another encode, or cast the column in clean.",
        )
    return found
