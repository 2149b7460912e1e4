"""The classes of the label: fitted on the train split, and the rows whose class it does not have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from millrace.config.models import ClassLabelConfig
from millrace.errors import QualityError
from millrace.fit.state import merge_classes
from millrace.flows.context import Context
from millrace.flows.scope import STEP, Scope
from millrace.transforms.encode import class_index, unseen_in_train


@dataclass(frozen=True)
class Unseen:
    """The classes of the label, and the rows whose class the train split does not have."""

    classes: tuple[str, ...] = ()
    label: str | None = None
    num_rows: int = 0
    columns: tuple[str, ...] = ()
    """The contract's."""

    @property
    def rule(self) -> str:
        """The rule that these rows break."""
        return unseen_in_train(str(self.label))

    def tag(self, rows: DataFrame) -> DataFrame:
        """The same rows, with those rows tagged. What is stored of one are the contract's columns as they have become."""
        if not self.num_rows or self.label is None:
            return rows
        stored = [name for name in self.columns if name in rows.columns]
        unseen = F.col("_rule").isNull() & class_index(self.label, self.classes).isNull()
        return rows.withColumns(
            {
                "_rule": F.when(unseen, F.lit(self.rule)).otherwise(F.col("_rule")),
                "_reason": F.when(unseen, F.lit("no row of the train split has this label")).otherwise(F.col("_reason")),
                "_action": F.when(unseen, F.lit("quarantined")).otherwise(F.col("_action")),
                "_record": F.when(unseen, F.to_json(F.struct(*stored))).otherwise(F.col("_record")),
            }
        )


def classes_and_unseen(context: Context, scope: Scope, rows: DataFrame) -> Unseen:
    """Fits the label's classes on the train split and counts the rows of other classes.

    Raises QualityError where the train split has no row.
    """
    if not isinstance(context.config.label, ClassLabelConfig):
        return Unseen()
    label = context.config.label.column
    found = rows.filter(F.col("_rule").isNull()).groupBy("split", label).count().collect()
    return unseen_of(context, scope, [(row["split"], row[label], row["count"]) for row in found])


def unseen_of(context: Context, scope: Scope, found: Sequence[tuple[str, object, int]]) -> Unseen:
    """`classes_and_unseen` of rows that are counted already: split, class, how many."""
    if not isinstance(context.config.label, ClassLabelConfig):
        return Unseen()
    standing = scope.standing.classes if scope.standing else ()
    classes = merge_classes(standing, [label for split, label, _ in found if split == "train" and label is not None])
    if not classes:
        raise QualityError(
            STEP, expected="rows in the train split", found="none", remedy="Look at split.fractions and at the rejects."
        )
    num_unseen = sum(num_rows for _, label, num_rows in found if label is None or str(label) not in classes)
    return Unseen(classes, context.config.label.column, num_unseen, tuple(context.contract.columns))
