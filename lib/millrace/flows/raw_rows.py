"""The rows of a pipeline that has gold alone: made of its raw files each time that they are asked for, by the steps of `rows`.

Nothing is kept between, so the files have to stay as they are (flows/pinned.py). What stands of other nights is told by gold's
row_id.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from millrace.contracts.packed import Packing
from millrace.contracts.texts import TEXTS, rules_met_by_typed, typed_columns
from millrace.flows.check import uses_content
from millrace.flows.context import Context
from millrace.flows.near_duplicates import Keep
from millrace.flows.rows import Rows, may_be_quarantined_later
from millrace.flows.scope import Scope
from millrace.lake import ledger as books
from millrace.lake.layout import gold
from millrace.lake.read import read_version
from millrace.quality.rules import rules_of, tag_where_broken
from millrace.sources.read import source_of, typed
from millrace.transforms.cast import CAST_FAILED, cast_columns, cast_texts, columns_of_texts, raw_text, raw_text_of_texts
from millrace.transforms.features import EncodedWhenRead
from millrace.transforms.identity import row_id

KEY_HASH = "_key_hash"
"""A 64-bit hash of a row's key, NULL where it breaks the contract: rows with one key have one hash, others seldom do."""

_READ = "_read"
"""The text of a row that broke while it was read."""


def packing_of(context: Context) -> Packing | None:
    """The number columns that nothing in Spark looks at. None where a row that came typed may be rejected: its text is made of
    them."""
    config, contract = context.config, context.contract
    if config.clean or config.changes_grain or may_be_quarantined_later(context):
        return None
    if {rule.name for rule in rules_of(contract)} - rules_met_by_typed(contract):
        return None
    texts = [config.split.model_dump_json(), *(contract.key or ()), config.label.column if config.label else ""]
    named = {word for text in texts for word in re.findall(r"\w+", text.lower())}
    columns = {name: contract.columns[name].data_type.to_arrow() for name in typed_columns(contract) if name.lower() not in named}
    return Packing(columns) if columns else None


@dataclass(frozen=True)
class Known:
    """What is known of the rows that are to be made: the first two a survey has told."""

    rules: Collection[str] | None = None
    """Those of the contract that a row may break. None: all."""
    encoded: EncodedWhenRead | None = None
    """How features are made where rows are read."""
    by_name: bool = False
    """Whether somebody looks at columns by their names: none is packed then."""


class RawRows(Rows):
    """Makes the rows of a scope from its raw files.

    `compares_keys`: rows are compared by their keys, as for silver; else each has KEY_HASH, for the survey to say whether that is
    needed. `is_survey`: row_id is asked for of rows with a tag only, and may be NULL in others.
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
        known: Known = Known(),
        is_survey: bool = False,
    ) -> None:
        self._files, self.compares_keys, self._rules, self._is_survey = files, compares_keys, known.rules, is_survey
        self._source = source_of(context.config.source, context.run.night)
        contract = context.contract
        # without a key a row is told by the text that it has in its file
        can_be_typed = bool(contract.key) and not uses_content(context.config)
        packing = packing_of(context) if can_be_typed and not compares_keys and not known.by_name else None
        carrier = known.encoded or packing
        self._typed_source = typed(self._source, carrier) if can_be_typed else None
        self.packing = packing if self._typed_source is not None else None
        """Of the columns that Spark only carries."""
        self.carrier = carrier if self._typed_source is not None else None
        """How those columns travel."""
        # what is wanted of few rows is made at the end, of columns that are as they were: a row_id costs as much as all rules
        self._is_late = self._typed_source is not None and not context.config.clean and not compares_keys
        super().__init__(context, attempt, scope, keep)

    def tagged(self) -> DataFrame:
        """See `Rows.tagged`; some columns travel as `carrier` says."""
        contract, rows = self._context.contract, super().tagged()
        if self._is_late:
            assert contract.key is not None
            own = row_id(rows.schema, contract.key)
            rows = rows.withColumn("row_id", F.when(F.col("_rule").isNotNull(), own) if self._is_survey else own)
        return rows.drop(*columns_of_texts(contract), _READ)

    @property
    def _packed(self) -> Collection[str]:
        return self.packing.types if self.packing else ()

    def standing_hashes(self) -> DataFrame | None:
        """KEY_HASH of the rows that stand."""
        return None if self._standing is None else self._standing.select(KEY_HASH)

    def _standing_rows(self) -> DataFrame | None:
        context, scope = self._context, self._scope
        table = gold(context.config.name)
        version = self._attempt.ledger.version_of(table)
        if scope.rebuild or version is None or not set(scope.seen) - set(scope.nights):
            return None
        rows = read_version(context.spark(), context.lake, table, version)
        return rows.filter(~F.col("_night").isin(list(scope.nights))).select("row_id", F.xxhash64("row_id").alias(KEY_HASH))

    def _is_few(self) -> bool:
        return False

    def _typed(self) -> DataFrame:
        context, contract = self._context, self._context.contract
        source = self._typed_source or self._source
        frames = []
        for night in self._scope.nights:
            paths = [file.path for file in self._files[night]]
            frames.append(source.rows(context.spark(), paths, contract).withColumn("_night", F.lit(night)))
        rows = reduce(DataFrame.unionByName, frames).withColumnRenamed("_record", _READ)
        if self._typed_source is not None:
            made = cast_texts(rows, contract=contract, packing=self.packing)
        else:
            made = cast_columns(rows.withColumn("_raw", raw_text(rows, contract=contract)), contract=contract)
        if not self._is_late:
            text = F.col("_raw") if self._typed_source is None else raw_text_of_texts(contract, packed=self._packed)
            made = made.withColumn("_raw", F.coalesce(_READ, text))
        return made.withColumn("_action", F.when(F.col("_rule").isNotNull(), F.lit("quarantined")))

    def _raw(self) -> Column:
        return (
            F.coalesce(_READ, raw_text_of_texts(self._context.contract, packed=self._packed)) if self._is_late else super()._raw()
        )

    def _by_contract(self, rows: DataFrame) -> DataFrame:
        contract = self._context.contract
        at = self.packing.at if self.packing else {}
        rules = [rule for rule in rules_of(contract, at) if self._rules is None or rule.name in self._rules]
        if self._typed_source is None:
            return tag_where_broken(rows, rules).drop(CAST_FAILED)
        met, came_typed = rules_met_by_typed(contract), F.col(TEXTS).isNull()
        return tag_where_broken(rows, rules, met=met, where=came_typed).drop(CAST_FAILED)

    def _checked(self) -> DataFrame:
        return self._by_contract(self._typed()) if self._is_late else super()._checked()

    def _with_keys(self, rows: DataFrame) -> DataFrame:
        key = self._context.contract.key
        if self.compares_keys or not key:
            return super()._with_keys(rows)
        if self._is_late:
            own = F.xxhash64(*key) if self._standing is None else F.xxhash64(row_id(rows.schema, key))
        else:
            own = F.xxhash64("row_id")  # of the key as it was before `clean`
        return rows.withColumn(KEY_HASH, F.when(F.col("_rule").isNull(), own))
