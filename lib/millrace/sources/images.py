"""JPEG and PNG in directories and archives, decoded and resized: one tensor a row. See `members` and `pictures`."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from millrace.config.file_sources import ImagesSource
from millrace.contracts.table import TableContract
from millrace.errors import ContractError
from millrace.sources import members, pictures
from millrace.sources.members import Decode, Members, MembersReader

RULES = (*members.RULES, *pictures.RULES)
_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")


@dataclass(frozen=True)
class ImagesReader(MembersReader):
    """Pictures as a `FileReader`: the bytes of tensors."""

    resize: str
    max_pixels: int
    rules: tuple[str, ...] = RULES

    @classmethod
    def of(cls, config: ImagesSource) -> ImagesReader:
        """By a pipeline's section."""
        found = Members(config.pattern, config.content, _SUFFIXES, config.limits)
        return cls(found, config.resize, config.max_pixels)

    def kind(self, contract: TableContract) -> pa.DataType:  # noqa: ARG002
        """Bytes."""
        return pa.binary()

    def decoder(self, contract: TableContract) -> Decode:
        """To the tensor's shape. Raises ContractError where the column has none that pictures fit."""
        shape = self._shape(contract)
        return lambda content: pictures.decode(content, shape=shape, resize=self.resize, max_pixels=self.max_pixels).tobytes()

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
