"""Conditions in Spark SQL, of contracts and pipelines: whether Spark understands them, before it is asked of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType, NullType, StructType

from millrace.config.cleaning import CastConfig
from millrace.config.models import PipelineConfig
from millrace.config.splitting import KFoldSplit
from millrace.contracts.spark import quoted, spark_type
from millrace.contracts.table import TableContract
from millrace.contracts.types import parse_type
from millrace.errors import ConfigError, in_short
from millrace.flows.check import FOLD, with_content
from millrace.transforms.check_cleaning import check_steps
from millrace.transforms.cleaning import num_before_split

_OF_FILES = ("_source_file", "_night")

Columns = Mapping[str, str]
"""Name -> type."""


def check_conditions(spark: SparkSession, config: PipelineConfig, contract: TableContract) -> None:
    """Raises ConfigError for the first condition that Spark cannot read, that names a column which is not there when it is asked,
    or that is not true or false."""
    for where, condition, columns in _conditions(config, contract):
        schema = StructType()
        for name, kind in columns.items():
            schema = schema.add(name, spark_type(parse_type(kind)))
        try:  # beside all columns: an aggregate, which is something else alone, is refused too
            said = spark.createDataFrame([], schema).select("*", F.expr(condition)).schema[-1].dataType
        except (AnalysisException, ParseException) as error:
            raise _error(where, contract, f"{condition!r}, of which Spark says: {in_short(str(error))}") from None
        if not isinstance(said, BooleanType | NullType):
            raise _error(where, contract, f"{condition!r}, which gives a {said.simpleString()}")
    known = with_content(config, contract)
    own = {name: column.type for name, column in known.columns.items()}
    for number, step in enumerate(config.clean):
        if step.cast is not None:
            _check_cast(spark, (own | check_steps(config.clean[:number], known))[step.cast.column], step.cast)


def _check_cast(spark: SparkSession, kind: str, config: CastConfig) -> None:
    """Raises ConfigError where Spark knows no way from the one type to the other."""
    rows = spark.createDataFrame([], StructType().add(config.column, spark_type(parse_type(kind))))
    try:
        rows.select(F.col(quoted(config.column)).try_cast(config.type))
    except AnalysisException:
        expected = f"clean.cast of {config.column} to a type that Spark can make of a {kind}"
        raise ConfigError("config", expected=expected, found=config.type, remedy="Cast it to a string first.") from None


def _conditions(config: PipelineConfig, contract: TableContract) -> Iterator[tuple[str, str, Columns]]:
    """Where it stands, the condition, the columns that are there when it is asked."""
    raw = {name: column.type for name, column in contract.columns.items()} | dict.fromkeys(_OF_FILES, "string")
    for check in contract.checks:
        yield f"checks of {contract.name}, {check.rule}", check.expression, raw
    known = with_content(config, contract)
    own = {**raw, **{name: column.type for name, column in known.columns.items()}, "row_id": "string"}
    split = {"split": "string"} | ({FOLD: "int"} if isinstance(config.split, KFoldSplit) else {})
    num_before = num_before_split(config.clean)
    for number, step in enumerate(config.clean):
        if step.filter is not None:
            made = check_steps(config.clean[:number], known)
            yield "clean.filter.where", step.filter.where, own | made | (split if number >= num_before else {})
    for name, rule in (("test", config.split.test), ("validation", config.split.validation)):
        if rule is not None:
            yield f"split.{name}.where", rule.where, own | check_steps(config.clean[:num_before], known)


def _error(where: str, contract: TableContract, found: str) -> ConfigError:
    return ConfigError(
        "config",
        expected=f"{where} to be a condition over the columns of {contract.name}, {' and '.join(_OF_FILES)}",
        found=found,
        remedy="Mend it there.",
    )
