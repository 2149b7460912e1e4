"""JPEG and PNG in directories and archives, decoded and resized: one tensor a row. See `members` and `pictures`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from millrace.config.file_sources import ImagesSource
from millrace.contracts.table import TableContract
from millrace.errors import ContractError
from millrace.sources import members, pictures
from millrace.sources.members import Members
from millrace.sources.rows import row_schema

RULES = (*members.RULES, *pictures.RULES)
_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")


@dataclass(frozen=True)
class ImagesReader:
    """Pictures as a `FileReader`."""

    members: Members
    resize: str
    max_pixels: int
    rules: tuple[str, ...] = RULES

    @classmethod
    def of(cls, config: ImagesSource) -> ImagesReader:
        """By a pipeline's section."""
        found = Members(config.pattern, config.content, _SUFFIXES, config.limits)
        return cls(found, config.resize, config.max_pixels)

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The pictures' and archives'."""
        return self.members.all_suffixes

    def units(self, paths: Sequence[str]) -> list[tuple[str, ...]]:
        """See `Members.units`."""
        return self.members.units(paths)

    def check(self, unit: tuple[str, ...], contract: TableContract) -> None:
        """See `Members.check`. Raises ContractError where the column has no tensor that pictures fit."""
        self.members.check(unit, contract)
        self._shape(contract)

    def arrow_schema(self, contract: TableContract) -> pa.Schema:
        """What the paths say as text, the tensor's bytes."""
        return row_schema(contract, {self.members.content: pa.binary()})

    def read(self, unit: tuple[str, ...], contract: TableContract) -> Iterator[pa.RecordBatch]:
        """One row per picture."""
        decode = partial(pictures.decode, shape=self._shape(contract), resize=self.resize, max_pixels=self.max_pixels)
        return self.members.read(unit, contract, pa.binary(), lambda content: decode(content).tobytes())

    def _shape(self, contract: TableContract) -> tuple[int, int, int]:
        tensor = contract.columns[self.members.content].tensor
        if tensor is None or tensor.dtype != "uint8" or len(tensor.shape) != 3 or tensor.shape[2] not in (1, 3):
            raise ContractError(
                "ingest",
                expected=f"{contract.name}.{self.members.content} to be a uint8 tensor (height, width, 1 or 3)",
                found="none" if tensor is None else f"{tensor.dtype} ({', '.join(map(str, tensor.shape))})",
                remedy="Mend the contract: pictures are resized to its tensor's shape, 1 is grey and 3 is RGB.",
            )
        return tensor.shape[0], tensor.shape[1], tensor.shape[2]
