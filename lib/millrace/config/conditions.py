"""Conditions in Spark SQL that configuration and contracts hold: of a row they say the same whenever they are asked."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

_CHANGING = re.compile(
    r"\b(?:(rand|randn|randstr|random|uniform|uuid|shuffle|now|curdate|monotonically_increasing_id|spark_partition_id|input_file_name)\s*\("
    r"|(unix_timestamp)\s*\(\s*\)|(current_date|current_timestamp|current_time|localtimestamp)\b)",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`[^`]*`""")
"""Texts, and names of columns."""


def _of_the_row(condition: str) -> str:
    changing = _CHANGING.search(_QUOTED.sub("''", condition))
    if changing:
        name = changing[changing.lastindex or 0]
        raise ValueError(f"a condition with {name} says another thing of a row at another time; say it by the row's columns")
    return condition


Condition = Annotated[str, Field(min_length=1), AfterValidator(_of_the_row)]
"""What depends on the moment or on chance is refused: a night that is done again would keep other rows."""
