"""The type names of a contract: Spark SQL's simple types, arrays, maps, structs: `array<struct<table:string,version:bigint>>`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

import pyarrow as pa

from millrace.errors import ConfigError

_ARROW = {
    "boolean": pa.bool_(),
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}
INTEGERS = {"tinyint": 8, "smallint": 16, "int": 32, "bigint": 64}
FLOATS = ("float", "double")
EXACT = (*INTEGERS, "string", "binary", "date", "timestamp")
"""Types whose values have one text or one row of bytes on every machine, so that rows can be told apart by them."""
_TOKEN = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*|[<>,:])")


@dataclass(frozen=True)
class DataType:
    """`kind` is a simple type's name, `array`, `map` or `struct`; `inner` its element, key and value, or fields."""

    kind: str
    inner: tuple[DataType, ...] = ()
    names: tuple[str, ...] = ()

    def to_arrow(self) -> pa.DataType:
        """The Arrow type."""
        if self.kind == "array":
            return pa.list_(self.inner[0].to_arrow())
        if self.kind == "map":
            return pa.map_(self.inner[0].to_arrow(), self.inner[1].to_arrow())
        if self.kind == "struct":
            return pa.struct([pa.field(name, kind.to_arrow()) for name, kind in zip(self.names, self.inner, strict=True)])
        return _ARROW[self.kind]

    def __str__(self) -> str:
        if self.kind == "struct":
            fields = ",".join(f"{name}:{kind}" for name, kind in zip(self.names, self.inner, strict=True))
            return f"struct<{fields}>"
        return f"{self.kind}<{','.join(map(str, self.inner))}>" if self.inner else self.kind


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _TOKEN.findall(text)
        if "".join(self.tokens) != re.sub(r"\s+", "", text):
            self.refuse()

    def refuse(self) -> NoReturn:
        known = ", ".join([*_ARROW, "array<T>", "map<K,V>", "struct<name:T,…>"])
        raise ConfigError("contract", expected="a column type", found=f"'{self.text}'", remedy=f"Known: {known}.")

    def take(self, wanted: str | None = None) -> str:
        if not self.tokens or (wanted is not None and self.tokens[0] != wanted):
            self.refuse()
        return str(self.tokens.pop(0))

    def parse(self) -> DataType:
        kind = self.take()
        if kind in _ARROW:
            return DataType(kind)
        if kind not in ("array", "map", "struct"):
            self.refuse()
        self.take("<")
        names, inner = [], []
        while True:
            if kind == "struct":
                names.append(self.take())
                self.take(":")
            inner.append(self.parse())
            if not self.tokens or self.tokens[0] != ",":
                break
            self.take(",")
        self.take(">")
        if len(inner) != {"array": 1, "map": 2}.get(kind, len(inner)):
            self.refuse()
        return DataType(kind, tuple(inner), tuple(names))


def parse_type(text: str) -> DataType:
    """The type that `text` names. Raises ConfigError where it names none."""
    parser = _Parser(text)
    parsed = parser.parse()
    if parser.tokens:
        parser.refuse()
    return parsed
