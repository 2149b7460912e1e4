"""How a CSV file is written, and what is wrong with a row of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from millrace.sources.blocks import MAX_ROW_BYTES, line_too_long
from millrace.sources.encodings import Encoding
from millrace.sources.gather import Verdict
from millrace.sources.opening import DEFAULT_LIMITS, Limits


@dataclass(frozen=True)
class Dialect:
    """The defaults are RFC 4180's, with a header line."""

    delimiter: str = ","
    quote: str | None = '"'
    encoding: Encoding = field(default_factory=Encoding)
    columns: tuple[str, ...] | None = None
    """The names of the fields of a file without a header line."""
    rename: tuple[tuple[str, str], ...] = ()
    """Names in the header, and what the contract calls them."""
    null_values: tuple[str, ...] = ("",)
    skip_spaces: bool = False
    """Spaces before a field are no part of it."""
    max_row_bytes: int = MAX_ROW_BYTES
    limits: Limits = DEFAULT_LIMITS

    @property
    def rules(self) -> tuple[str, ...]:
        """What a row may break."""
        return ("too_few_fields", "too_many_fields", "column_added", "column_missing", self.encoding.rule, "line_too_long")

    def verdict_of_count(self, num_fields: int, header: Sequence[str]) -> Verdict:
        """For a row that has another number of fields than it should."""
        rule = "too_few_fields" if num_fields < len(header) else "too_many_fields"
        if self.columns is None:
            return rule, f"{num_fields} fields where the header has {len(header)}"
        return rule, f"{num_fields} fields where the source has {len(header)} columns"

    def verdict_of_length(self) -> Verdict:
        """For a line above the cap."""
        return line_too_long(self.max_row_bytes)


RFC_4180 = Dialect()
