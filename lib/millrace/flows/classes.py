"""The classes of the label: fitted on the train split, and the rows whose class it does not have."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from millrace.config.models import ClassLabelConfig
from millrace.errors import QualityError
from millrace.fit.state import merge_classes
from millrace.flows.context import Context
from millrace.flows.scope import STEP, Scope
from millrace.transforms.encode import class_index


@dataclass(frozen=True)
class Unseen:
    """The classes of the label, and the rows whose class the train split does not have."""

    classes: tuple[str, ...] = ()
    label: str | None = None
    num_rows: int = 0

    def tag(self, rows: DataFrame) -> DataFrame:
        """The same rows, with those rows tagged."""
        if not self.num_rows or self.label is None:
            return rows
        unseen = F.col("_rule").isNull() & class_index(self.label, self.classes).isNull()
        return rows.withColumns(
            {
                "_rule": F.when(unseen, F.lit(f"{self.label}_unseen_in_train")).otherwise(F.col("_rule")),
                "_reason": F.when(unseen, F.lit("no row of the train split has this label")).otherwise(F.col("_reason")),
                "_action": F.when(unseen, F.lit("quarantined")).otherwise(F.col("_action")),
                "_record": F.when(unseen, F.to_json(F.struct("row_id", self.label))).otherwise(F.col("_record")),
            }
        )


def label_of(context: Context) -> str:
    """The name of the label's column, for rules."""
    return context.config.label.column if context.config.label else "label"


def classes_and_unseen(context: Context, scope: Scope, rows: DataFrame) -> Unseen:
    """Fits the label's classes on the train split and counts the rows of other classes.

    Raises QualityError where the train split has no row.
    """
    if not isinstance(context.config.label, ClassLabelConfig):
        return Unseen()
    label = context.config.label.column
    found = rows.filter(F.col("_rule").isNull()).groupBy("split", label).count().collect()
    standing = scope.standing.classes if scope.standing else ()
    classes = merge_classes(standing, [row[label] for row in found if row["split"] == "train" and row[label] is not None])
    if not classes:
        raise QualityError(
            STEP, expected="rows in the train split", found="none", remedy="Look at split.fractions and at the rejects."
        )
    unseen = sum(row["count"] for row in found if row[label] is None or str(row[label]) not in classes)
    return Unseen(classes, label, unseen)
