"""The rows of a pipeline that has gold alone: made of its raw files each time that they are asked for, by the steps of `rows`.

Nothing is kept between, so the files have to stay as they are (`Pinned`). What stands of other nights is told by gold's row_id.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from millrace.contracts.texts import TEXTS, rules_met_by_typed
from millrace.flows.check import uses_content
from millrace.flows.context import Context
from millrace.flows.rows import Keep, Rows
from millrace.flows.scope import Scope
from millrace.lake import ledger as books
from millrace.lake.layout import gold
from millrace.lake.read import read_version
from millrace.quality.rules import rules_of, tag_where_broken
from millrace.sources.read import source_of, typed
from millrace.transforms.cast import CAST_FAILED, cast_columns, cast_texts, raw_text

KEY_HASH = "_key_hash"
"""A 64-bit hash of a row's key, NULL where it breaks the contract: rows with one key have one hash, others seldom do."""


class RawRows(Rows):
    """Makes the rows of a scope from its raw files.

    `compares_keys`: rows are compared by their keys, as for silver; else each has KEY_HASH, for the survey to say whether that is
    needed. `rules`: those of the contract that a row may break, where that is known; all by default.
    """

    def __init__(
        self,
        context: Context,
        attempt: books.Attempt,
        scope: Scope,
        keep: Keep,
        *,
        files: Mapping[str, tuple[books.RawFile, ...]],
        compares_keys: bool,
        rules: Collection[str] | None = None,
    ) -> None:
        self._files, self.compares_keys, self._rules = files, compares_keys, rules
        super().__init__(context, attempt, scope, keep)

    def _standing_rows(self) -> DataFrame | None:
        context, scope = self._context, self._scope
        table = gold(context.config.name)
        version = self._attempt.ledger.version_of(table)
        if scope.rebuild or version is None or not set(scope.seen) - set(scope.nights):
            return None
        rows = read_version(context.spark(), context.lake, table, version)
        return rows.filter(~F.col("_night").isin(list(scope.nights))).select("row_id", F.xxhash64("row_id").alias(KEY_HASH))

    def standing_hashes(self) -> DataFrame | None:
        """KEY_HASH of the rows that stand."""
        return None if self._standing is None else self._standing.select(KEY_HASH)

    def _is_few(self) -> bool:
        return False

    def _typed(self) -> DataFrame:
        context, contract = self._context, self._context.contract
        source = source_of(context.config.source, context.run.night)
        # without a key a row is told by the text that it has in its file
        fast = typed(source) if contract.key and not uses_content(context.config) else None
        frames = []
        for night in self._scope.nights:
            paths = [file.path for file in self._files[night]]
            frames.append((fast or source).rows(context.spark(), paths, contract).withColumn("_night", F.lit(night)))
        rows = reduce(DataFrame.unionByName, frames)
        if fast is not None:
            made = cast_texts(rows, contract=contract)
        else:
            made = cast_columns(rows.withColumn("_raw", raw_text(rows, contract=contract)), contract=contract)
        action = F.when(F.col("_rule").isNotNull(), F.lit("quarantined"))
        return made.withColumns({"_raw": F.coalesce("_record", "_raw"), "_action": action}).drop("_record")

    def _by_contract(self, rows: DataFrame) -> DataFrame:
        contract = self._context.contract
        rules = [rule for rule in rules_of(contract) if self._rules is None or rule.name in self._rules]
        has_texts = TEXTS in rows.columns
        met = rules_met_by_typed(contract) if has_texts else ()
        where = F.col(TEXTS).isNull() if has_texts else F.lit(False)
        return tag_where_broken(rows, rules, met=met, where=where).drop(CAST_FAILED, TEXTS)

    def _with_keys(self, rows: DataFrame) -> DataFrame:
        if self.compares_keys or not self._context.contract.key:
            return super()._with_keys(rows)
        key = ["row_id"] if self._standing is not None else list(self._context.contract.key)
        return rows.withColumn(KEY_HASH, F.when(F.col("_rule").isNull(), F.xxhash64(*key)))
