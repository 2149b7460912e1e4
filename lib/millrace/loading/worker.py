"""What a reader does, thread or process: reads one row group after the other, and publishes its columns or what went wrong."""

from __future__ import annotations

import traceback
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
from petastorm.cache import NullCache
from petastorm.workers_pool.worker_base import WorkerBase

from millrace.errors import ContractError, LakeError, MillraceError, find_in
from millrace.loading.blocks import Blocks
from millrace.loading.cache import RowGroupCache
from millrace.loading.columns import STAGE, ColumnSpec, RowGroupColumns, decode
from millrace.loading.files import RowGroupFile, may_pass, reuse_memory
from millrace.loading.processes import outlive_no_parent
from millrace.loading.wire import pack, unpack
from millrace.observe import mask

_OPEN_FILES = 16  # file handles that each reader keeps


@dataclass(frozen=True)
class Done:
    """What a worker publishes: the decoded columns, or what went wrong."""

    turn: int
    place: int
    columns: RowGroupColumns | None
    error: Exception | None


class DoneAsBytes:
    """`Done` on its way from a reader process."""

    def serialize(self, done: Done) -> memoryview:
        return pack(
            done.columns or {},
            {"turn": done.turn, "place": done.place, "error": None if done.error is None else _as_text(done.error)},
        )

    def deserialize(self, data: memoryview) -> Done:
        columns, fields = unpack(data)
        if fields["error"] is None:
            return Done(fields["turn"], fields["place"], columns, None)
        return Done(fields["turn"], fields["place"], None, find_in(fields["error"]) or RuntimeError(fields["error"]))


def _as_text(error: Exception) -> str:
    return error.to_wire() if isinstance(error, MillraceError) else "".join(traceback.format_exception(error))


@dataclass(frozen=True)
class WorkerSetup:
    """What a reader is started with."""

    columns: tuple[ColumnSpec, ...]
    cache_directory: str | None
    cache_bytes: int
    parent: int
    """Process that a reader process belongs to."""
    socket_directory: str | None
    """Set for reader processes."""
    blocks: Blocks | None
    """Where threads put what they have decoded; processes send it."""


class RowGroupWorker(WorkerBase):  # type: ignore[misc]  # Petastorm has no type hints
    """Reads one row group at a time and decodes the columns that were asked for."""

    def __init__(self, worker_id: int, publish_func: Callable[[Done], None], args: WorkerSetup) -> None:
        super().__init__(worker_id, publish_func, args)
        if args.socket_directory is not None:
            outlive_no_parent(args.parent, args.socket_directory)
            reuse_memory()
        self._specs = args.columns
        self._no_cache = NullCache()
        self._cache = RowGroupCache(args.cache_directory, args.cache_bytes) if args.cache_directory else self._no_cache
        self._blocks = args.blocks
        self._open: OrderedDict[str, RowGroupFile] = OrderedDict()

    def process(self, *, turn: int, place: int, uri: str, identity: str, row_group: int, num_rows: int) -> None:
        key = repr((uri, identity, row_group, num_rows, self._specs))
        try:
            cache = self._no_cache if identity.endswith("|") or not identity else self._cache  # it may be another file then
            done = Done(turn, place, cache.get(key, lambda: self._read(uri, identity, row_group, num_rows)), None)
        except Exception as error:  # it is raised again by the thread that takes the results
            done = Done(turn, place, None, error)
        self.publish_func(done)

    def _read(self, uri: str, identity: str, row_group: int, num_rows: int) -> RowGroupColumns:
        where = f"row group {row_group} of {mask(uri)}"
        try:
            file = self._file(uri, identity)
            missing = [spec.name for spec in self._specs if spec.name not in file.names]
            if missing:
                raise ContractError(
                    STAGE,
                    expected=f"the columns {', '.join(missing)}",
                    found=f"{', '.join(file.names)} in {mask(uri)}",
                    remedy="Compare the columns that were asked for with the table's.",
                )
            if row_group >= file.metadata.num_row_groups:
                raise _changed(where, f"{num_rows} rows", "no such row group")
            table = file.read(row_group, [spec.name for spec in self._specs])
        except (OSError, pa.ArrowException) as error:
            if may_pass(error):
                raise _not_now(where, error) from error
            raise _changed(where, f"{num_rows} rows", mask(str(error))) from error
        if table.num_rows != num_rows:
            raise _changed(where, f"{num_rows} rows", f"{table.num_rows} rows")
        columns = {spec.name: decode(table.column(spec.name), spec, where=where) for spec in self._specs}
        # A copy takes a fifth of the time of decoding. Without it Arrow's buffers, which are up to twice as large as what is in
        # them, would stay as long as a window needs the row group, and be given back by another thread than that which made them.
        return columns if self._blocks is None else self._blocks.copy(columns)

    def _file(self, uri: str, identity: str) -> RowGroupFile:
        if uri not in self._open:
            if len(self._open) >= _OPEN_FILES:
                self._open.popitem(last=False)[1].close()
            file = RowGroupFile(uri)
            size = identity.partition("|")[0]
            if size.isdigit() and file.num_bytes != int(size):
                file.close()
                raise _changed(mask(uri), f"{int(size):,} bytes", f"{file.num_bytes:,} bytes")
            self._open[uri] = file
        self._open.move_to_end(uri)
        return self._open[uri]


def _changed(where: str, expected: str, found: str) -> LakeError:
    return LakeError(
        STAGE,
        expected=f"{expected} in {where}, as indexed",
        found=found,
        remedy="The table was vacuumed, rewritten or damaged under the run: build the index again, from a version that is kept.",
    )


def _not_now(where: str, error: BaseException) -> LakeError:
    return LakeError(
        STAGE,
        expected=f"{where} to be read",
        found=mask(f"{type(error).__name__}: {error}"),
        remedy="See that the store answers. Training goes on from its last checkpoint, a stream from the step that it is given.",
        retry=True,
    )
