"""What Spark says of rows that fail while it reads or computes them, as one clear error.

Files of ours are read in Python, and their errors travel as `errors.WireError`. A Delta table's files and a database's rows are
read by Spark itself, long after `check`: a page that is damaged, a file that was vacuumed, a server that went away. A condition
that Spark understands may still fail for a row: ANSI SQL ends the job where a number is divided by zero or a text is no number.
"""

from __future__ import annotations

import re

from millrace.errors import MillraceError, QualityError, SourceError, in_short
from millrace.observe import mask

_FILE = re.compile(r"\[FAILED_READ_FILE(\.\w+)?\] [^\n]*?reading file (\S+?)\.?(?:\s|$)")
_OF_A_ROW = re.compile(
    r"\[(DIVIDE_BY_ZERO|REMAINDER_BY_ZERO|CAST_INVALID_INPUT|CAST_OVERFLOW|ARITHMETIC_OVERFLOW|BINARY_ARITHMETIC_OVERFLOW"
    r"|NUMERIC_VALUE_OUT_OF_RANGE|INVALID_ARRAY_INDEX|CANNOT_PARSE_TIMESTAMP|DATETIME_OVERFLOW)(?:\.\w+)?\] ([^\n]{1,300}).*?"
    r"\n== SQL \([^\n]*==\n([^\n]{1,300})",
    re.DOTALL,
)
_SQL = re.compile(r"java\.sql\.SQL(\w*)Exception: ([^\n]{1,300})")


def explain(text: str) -> MillraceError | None:
    """The error that the text of one of Spark's tells of, or None where it tells of something else."""
    file = _FILE.search(text)
    if file is not None:
        is_gone = "NOT_EXIST" in (file.group(1) or "")
        return SourceError(
            "ingest",
            expected=f"a whole file at {file.group(2)}",
            found="none" if is_gone else "that it is damaged",
            remedy="Mend the table, or name another version of it.",
        )
    row = _OF_A_ROW.search(text)
    if row is not None:
        return QualityError(
            "preprocess",
            expected=f"a condition that holds or not for every row, {mask(row.group(3).strip())}",
            found=f"one for which Spark says {mask(in_short(row.group(2)))}",
            remedy="Let the condition give NULL there, with try_divide or try_cast.",
        )
    statement = _SQL.search(text)
    if statement is None:
        return None
    return SourceError(
        "ingest",
        expected="the database to give its rows",
        found=mask(" ".join(statement.group(2).split())),
        remedy="Check the database and source.query; what it stumbles over is said there.",
        retry=statement.group(1).startswith(("NonTransientConnection", "TransientConnection", "Recoverable", "Timeout")),
    )
