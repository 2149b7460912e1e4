"""How many bytes of rows go to Python at once.

conf/spark bounds an Arrow batch by its bytes, since 10,000 rows, Spark's own bound, may be texts of some MB each. Spark then asks
every column for its size after every row: 32 ns a value, a tenth of the night of a wide table, whose values are short.
"""

from __future__ import annotations

from pyspark.sql import SparkSession

from millrace.config.models import PipelineConfig
from millrace.contracts.table import TableContract

KEY = "spark.sql.execution.arrow.maxBytesPerBatch"
BATCH_BYTES = 16 * 1024**2
_NO_BOUND = 2**31 - 1
_WIDE = 16  # columns
_OF_TEXTS = ("text", "language", "quality", "mask", "near_duplicates")


def has_long_values(config: PipelineConfig, contract: TableContract) -> bool:
    """Whether 10,000 rows may take much memory: texts that are cleaned or tokenised, tensors; and few columns may be anything."""
    texts = any(step.name in _OF_TEXTS for step in config.clean)
    tensors = any(column.type == "binary" or column.data_type.inner for column in contract.columns.values())
    return texts or tensors or bool(config.token_features) or len(contract.columns) <= _WIDE


def bound_batches(spark: SparkSession, config: PipelineConfig, contract: TableContract) -> None:
    """Sets the bound for what this session does from here on."""
    spark.conf.set(KEY, str(BATCH_BYTES if has_long_values(config, contract) else _NO_BOUND))
