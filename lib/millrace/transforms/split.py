"""Which split a row belongs to: a function of the row alone, so that it never changes when rows are added."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.types import StructType

from millrace.config.models import SplitConfig
from millrace.transforms.identity import encoded, hash_number, threshold

SPLITS = ("train", "validation", "test")


def split_of(schema: StructType, config: SplitConfig) -> Column:
    """train, validation or test: by the rules of `where` first, then by the key's hash against integer thresholds."""
    number = hash_number(encoded(schema, config.key), seed=config.seed)
    chosen = F.lit("train")
    total = sum(config.fractions.values())
    for name in reversed([name for name in SPLITS if name in config.fractions]):
        upper = sum(config.fractions[earlier] for earlier in SPLITS[: SPLITS.index(name) + 1] if earlier in config.fractions)
        chosen = F.lit(name) if upper >= total else F.when(number < threshold(upper), F.lit(name)).otherwise(chosen)
    for name, rule in (("validation", config.validation), ("test", config.test)):
        if rule is not None:
            chosen = F.when(F.expr(rule.where), F.lit(name)).otherwise(chosen)
    return chosen
