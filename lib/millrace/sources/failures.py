"""What Spark says of a table or database that fails while its rows are read, as one clear error.

Files of ours are read in Python, and their errors travel as `errors.WireError`. A Delta table's files and a database's rows are
read by Spark itself, long after `check`: a page that is damaged, a file that was vacuumed, a server that went away.
"""

from __future__ import annotations

import re

from millrace.errors import SourceError
from millrace.observe import mask

_FILE = re.compile(r"\[FAILED_READ_FILE(\.\w+)?\] [^\n]*?reading file (\S+?)\.?(?:\s|$)")
_SQL = re.compile(r"java\.sql\.SQL(\w*)Exception: ([^\n]{1,300})")


def explain(text: str) -> SourceError | None:
    """The SourceError that the text of an error of Spark's tells of, or None where it tells of something else."""
    file = _FILE.search(text)
    if file is not None:
        is_gone = "NOT_EXIST" in (file.group(1) or "")
        return SourceError(
            "ingest",
            expected=f"a whole file at {file.group(2)}",
            found="none" if is_gone else "that it is damaged",
            remedy="Mend the table, or name another version of it.",
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
