"""Which split a row belongs to: a function of the row alone, so that it never changes when rows are added."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from millrace.config.models import SplitConfig
from millrace.transforms.identity import encoded, hash_number, threshold

SPLITS = ("train", "validation", "test")


def split_of(schema: StructType, config: SplitConfig) -> Column:
    """train, validation or test: by the rules of `where` first, then by the key's hash against integer thresholds."""
    number = hash_number(encoded(schema, config.key), seed=config.seed)
    names = [name for name in SPLITS if name in config.fractions]
    chosen, upper = F.lit(names[-1]), 1.0
    for name, after in zip(reversed(names[:-1]), reversed(names[1:]), strict=True):
        upper -= config.fractions[after]
        chosen = F.when(number < threshold(upper), F.lit(name)).otherwise(chosen)
    for name, rule in (("validation", config.validation), ("test", config.test)):
        if rule is not None:
            chosen = F.when(F.expr(rule.where), F.lit(name)).otherwise(chosen)
    return chosen
