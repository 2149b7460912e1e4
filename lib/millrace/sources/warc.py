"""Web archives: one row per response (.warc) or per conversion record, which is a page's text (.wet). See `records` and `http`.

Records of other types (warcinfo, request, revisit, metadata) are no rows. A record with a broken header or a wrong length is one,
whatever its type, as that cannot be trusted. A truncated archive is refused as a whole, as truncated files of every other format
are: what was lost cannot be counted.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from millrace.config.file_sources import WarcFormat, WetFormat
from millrace.contracts.table import TableContract
from millrace.errors import SourceError
from millrace.sources import http, records
from millrace.sources.members import ContentError
from millrace.sources.opening import Limits, open_raw, with_compressions
from millrace.sources.records import Record, read_records
from millrace.sources.rows import Row, batches, broken, check_columns, check_type, row_schema

COLUMNS = ("uri", "date", "content_type", "status", "payload", "language", "record_id", "digest")
RULES = (*records.RULES, *http.RULES, "wrong_digest")
_SHA1 = re.compile(r"sha1:([A-Z2-7]{32})")


@dataclass(frozen=True)
class WarcReader:
    """Web archives as a `FileReader`. Of `COLUMNS` a contract has those that it wants; payload is binary or a text.

    uri, date, language, record_id, digest (of the payload, else of the block) are the record's own fields, NULL where it has
    none; content_type and status are the HTTP response's, where it is one.
    """

    record_type: str
    suffixes: tuple[str, ...]
    record_bytes: int
    total_bytes: int
    rules: tuple[str, ...] = RULES

    @classmethod
    def of(cls, config: WarcFormat | WetFormat) -> WarcReader:
        """By a pipeline's section."""
        if config.format == "warc":
            return cls("response", with_compressions(".warc"), config.record_bytes, config.total_bytes)
        return cls("conversion", with_compressions(".wet"), config.record_bytes, config.total_bytes)

    def units(self, paths: Sequence[str]) -> list[str]:
        """Whole files."""
        return list(paths)

    def check(self, unit: str, contract: TableContract) -> None:
        """Raises ContractError for columns that records do not have, SourceError where the first line is no record's."""
        check_columns(contract, COLUMNS, (), "name its columns so")
        check_type(contract, "payload", ("string", "binary"))
        with open_raw(unit, self._limits) as stream:
            line = stream.readline(100)
        if line and not line.startswith(b"WARC/1."):
            raise SourceError(
                "ingest",
                expected=f"WARC/1.0 or WARC/1.1 in the first line of {unit}",
                found=repr(line[:40].decode("utf-8", "backslashreplace")),
                remedy="It is no web archive: fetch it again.",
            )

    def arrow_schema(self, contract: TableContract) -> pa.Schema:
        """Text, and the payload in the contract's type."""
        types = {"payload": contract.columns["payload"].data_type.to_arrow()} if "payload" in contract.columns else {}
        return row_schema(contract, types)

    def read(self, unit: str, contract: TableContract) -> Iterator[pa.RecordBatch]:
        """One row per record of the type, and per broken one. Raises SourceError where the archive is truncated."""
        schema = self.arrow_schema(contract)
        as_text = "payload" in contract.columns and contract.columns["payload"].type == "string"
        yield from batches(self._rows(unit, as_text), schema)

    @property
    def _limits(self) -> Limits:
        return Limits(max_bytes=self.total_bytes)

    def _rows(self, path: str, as_text: bool) -> Iterator[Row]:
        with open_raw(path, self._limits) as stream:
            for record in read_records(stream, path, self.record_bytes):
                kind = record.fields.get("warc-type", self.record_type).lower()  # unknown where the header is broken
                if kind == self.record_type and record.rule is not None:
                    yield broken(path, record.rule, record.reason, record.shown)
                elif kind == self.record_type:
                    yield self._row(path, record, as_text)

    def _row(self, path: str, record: Record, as_text: bool) -> Row:
        try:
            values = self._values(record, as_text)
        except ContentError as bad:
            name = record.fields.get("warc-target-uri") or record.fields.get("warc-record-id") or "a record without a name"
            return broken(path, bad.rule, f"{name.strip('<>')[:300]}: {bad.reason}", record.block)
        return Row(path, values, num_bytes=2 * len(record.block) + 500)

    def _values(self, record: Record, as_text: bool) -> Mapping[str, Any]:
        fields = record.fields
        digest = _SHA1.fullmatch(fields.get("warc-block-digest", ""))
        if digest and base64.b32decode(digest.group(1)) != hashlib.sha1(record.block, usedforsecurity=False).digest():
            raise ContentError("wrong_digest", "the block is not the one that WARC-Block-Digest is of")
        content_type, status, payload = fields.get("content-type"), None, record.block
        if self.record_type == "response" and (content_type or "").lower().startswith("application/http"):
            response = http.parse_response(record.block, self.record_bytes)
            content_type, status, payload = response.headers.get("content-type"), response.status, response.body
        return {
            "uri": _bare(fields.get("warc-target-uri")),
            "date": fields.get("warc-date"),
            "content_type": content_type,
            "status": status,
            "payload": http.text_of(payload, content_type) if as_text else payload,
            "language": fields.get("warc-identified-content-language"),
            "record_id": _bare(fields.get("warc-record-id")),
            "digest": fields.get("warc-payload-digest") or fields.get("warc-block-digest"),
        }


def _bare(text: str | None) -> str | None:
    return None if text is None else text.removeprefix("<").removesuffix(">")
