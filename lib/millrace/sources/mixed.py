"""Files of several formats: each is read by the part whose ending its name has, and all come to one set of columns, as texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from millrace.config.mixed_sources import Part
from millrace.contracts.table import ColumnContract, TableContract
from millrace.errors import ConfigError, ContractError, SourceError
from millrace.sources.gather import text_schema
from millrace.sources.opening import COMPRESSIONS
from millrace.sources.reader import FileReader

_PASSED_OVER = ColumnContract(type="string")
_SHOWN = 3


@dataclass(frozen=True)
class PartReader:
    """One format, and what its columns become."""

    format: str
    reader: FileReader
    mapping: Mapping[str, str | None]
    """The format's column -> the contract's, or None for one that is passed over."""

    def contract(self, whole: TableContract) -> TableContract:
        """The contract of what the part's files have, under the format's own names."""
        columns = {own: _PASSED_OVER if name is None else whole.columns[name] for own, name in self.mapping.items()}
        # not validated again: what a whole contract must have a part need not
        return TableContract.model_construct(name=whole.name, grain=whole.grain, columns=columns, evolution=whole.evolution)

    def check(self, unit: Any, whole: TableContract) -> None:
        """As `FileReader.check`; also raises ContractError where the format gives another thing than text."""
        contract = self.contract(whole)
        self.reader.check(unit, contract)
        schema = self.reader.arrow_schema(contract)
        for own, name in self.mapping.items():
            if schema.field(own).type != pa.string():
                raise ContractError(
                    "ingest",
                    expected=f"the column {name} of {whole.name} to be string, since a mixed source gives texts",
                    found=whole.columns[str(name)].type,
                    remedy=f"Mend the contract, or read the {self.format} files by a source of their own.",
                )

    def read(self, unit: Any, whole: TableContract, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """The rows of a unit in the schema of all parts."""
        origins: dict[str, str | None] = dict.fromkeys(whole.columns)
        origins |= {name: own for own, name in self.mapping.items() if name is not None}
        for batch in self.reader.read(unit, self.contract(whole)):
            there = {name: batch.column(name) for name in batch.schema.names}
            found = [there.get(origins.get(field.name, field.name) or "") for field in schema]
            nothing = [pa.nulls(batch.num_rows, field.type) for field in schema]
            arrays = [null if array is None else array for array, null in zip(found, nothing, strict=True)]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)


@dataclass(frozen=True)
class MixedReader:
    """Several formats as one `FileReader`."""

    parts: tuple[PartReader, ...]
    suffixes: tuple[str, ...] = ("",)
    """All names: what no part takes is refused, not passed over."""

    @classmethod
    def of(cls, sections: Sequence[tuple[str, Part, FileReader]]) -> MixedReader:
        """Of a pipeline's parts: format, section, reader. Raises ConfigError where two of them take files of the same ending."""
        owners: dict[str, str] = {}
        for format, _, reader in sections:
            for suffix in reader.suffixes:
                if suffix in owners:
                    raise ConfigError(
                        "config",
                        expected="one part of source.parts for each ending",
                        found=f"{suffix} in the parts {owners[suffix]} and {format}",
                        remedy="Say with suffixes which endings each of them takes.",
                    )
                owners[suffix] = format
        return cls(tuple(PartReader(format, reader, dict(part.mapping)) for format, part, reader in sections))

    @property
    def rules(self) -> tuple[str, ...]:
        """Those of all parts."""
        return tuple(dict.fromkeys(rule for part in self.parts for rule in part.reader.rules))

    def units(self, paths: Sequence[str]) -> list[tuple[int, Any]]:
        """(part, its unit). Raises SourceError for files that no part takes."""
        by_part: dict[int, list[str]] = {}
        strange = []
        for path in paths:
            number = self._part_of(path)
            if number is None:
                strange.append(path)
            else:
                by_part.setdefault(number, []).append(path)
        if strange:
            raise self._not_taken(strange)
        return [(number, unit) for number in sorted(by_part) for unit in self.parts[number].reader.units(by_part[number])]

    def check(self, unit: tuple[int, Any], contract: TableContract) -> None:
        """As the part's reader does. Raises ContractError for a column that would not be text."""
        number, own = unit
        self.parts[number].check(own, contract)

    def arrow_schema(self, contract: TableContract) -> pa.Schema:
        """All as text; where the contract lets columns be added, the map of them too."""
        return text_schema(contract)

    def read(self, unit: tuple[int, Any], contract: TableContract) -> Iterator[pa.RecordBatch]:
        """As the part's reader does."""
        number, own = unit
        yield from self.parts[number].read(own, contract, self.arrow_schema(contract))

    def _part_of(self, path: str) -> int | None:
        """The part with the longest ending that the path has."""
        found = [
            (len(suffix), number)
            for number, part in enumerate(self.parts)
            for suffix in part.reader.suffixes
            if path.endswith(suffix)
        ]
        return max(found)[1] if found else None

    def _not_taken(self, paths: Sequence[str]) -> SourceError:
        plain = [suffix for part in self.parts for suffix in part.reader.suffixes if not suffix.endswith(COMPRESSIONS)]
        behind = ", ".join(COMPRESSIONS)
        more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
        return SourceError(
            "ingest",
            expected=f"files that a part of the source takes ({', '.join(plain)}; {behind} may follow)",
            found=f"{', '.join(paths[:_SHOWN])}{more}",
            remedy="Add a part, give a part these suffixes, move the files away, or name their endings in source.ignore.",
        )
