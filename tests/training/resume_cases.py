"""Runs that stop and go on, in every process of a Horovod run, with the rows that each step was given."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

from millrace.loading.columns import ColumnSpec
from millrace.loading.reader import Batch, PlannedReader
from millrace.training.request import TrainRequest


class StoppedError(Exception):
    """The process ends here, as far as the loop is concerned."""


@dataclass
class Recorder:
    """What one rank was given, and where it stops."""

    stop_after: float | None = None
    """The step whose checkpoint is the last; half a step later is after an epoch's end."""
    row_ids: list[tuple[int, int, tuple[str, ...]]] = field(default_factory=list)
    """(epoch, step in it, both from 0; the rank's rows)"""
    learning_rates: list[tuple[int, float]] = field(default_factory=list)

    def tell(self, kind: str, **fields: Any) -> None:
        """Stops when the checkpoint of the step has been written: when the next thing is told."""
        later = kind == "step" and fields["step"] == int(self.stop_after_or_never()) + 1
        if later or (kind == "validation" and fields["step"] == self.stop_after):
            raise StoppedError
        if kind == "step":
            self.learning_rates.append((fields["step"], fields["learning_rate"]))

    def stop_after_or_never(self) -> float:
        return -1 if self.stop_after is None else self.stop_after

    def reader(self) -> type[PlannedReader]:
        """A reader with a second one beside it, which by the same plan reads row_id."""
        row_ids = self.row_ids

        class Recording(PlannedReader):
            def __init__(self, index: Any, spec: Any, columns: Sequence[ColumnSpec], **options: Any) -> None:
                super().__init__(index, spec, columns, **options)
                self._names = PlannedReader(index, spec, (ColumnSpec(name="row_id", dtype="string"),), **options)

            def batches(self, epoch: int, **options: Any) -> Iterator[Batch]:
                names = self._names.batches(epoch, first_step=options.get("first_step", 0))
                for batch, named in zip(super().batches(epoch, **options), names, strict=True):
                    row_ids.append((epoch, batch.step, tuple(named.columns["row_id"][: named.num_rows])))
                    yield batch

        return Recording


@dataclass(frozen=True)
class Lineage:
    """What one rank has at the end of a run."""

    weight_hash: str | None
    """None where the run has stopped before."""
    first_step: int | None
    learning_rates: tuple[tuple[int, float], ...]
    """(step, from 1 over all epochs; the rate that it was taken with)"""
    row_ids: tuple[tuple[int, int, tuple[str, ...]], ...]
    rows: tuple[dict[str, Any], ...] = ()
    """Of metrics/epochs, but for the speed."""


def run_once(request: TrainRequest, ranks: Any, stop_after: float | None = None) -> Lineage:
    """One run on these ranks, to its end or to the checkpoint after a step."""
    from millrace.training import loop

    recorder = Recorder(stop_after)
    with mock.patch.object(loop, "PlannedReader", recorder.reader()):
        try:
            result = loop.train(request, ranks, tell=recorder.tell)
        except StoppedError:
            return Lineage(None, None, tuple(recorder.learning_rates), tuple(recorder.row_ids))
    rows = tuple({name: value for name, value in row.items() if name != "rows_per_second"} for row in result.rows)
    return Lineage(result.weight_hash, result.first_step, tuple(recorder.learning_rates), tuple(recorder.row_ids), rows)


def as_rank(request_json: str, stops: Sequence[float]) -> tuple[Lineage, dict[float, tuple[Lineage, Lineage]]]:
    """A whole run; then, for each stop, a run that stops there and one that goes on. In a process that Horovod has started."""
    import tensorflow as tf

    from millrace.training.ranks import Ranks

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    ranks = Ranks(rank=int(os.environ["HOROVOD_RANK"]), world_size=int(os.environ["HOROVOD_SIZE"]))
    request = TrainRequest.from_json(request_json)
    whole = run_once(request, ranks)
    parts = {}
    for stop in stops:
        own = replace(request, checkpoints=f"{request.checkpoints}-{ranks.world_size}-{stop}", board=None)
        parts[stop] = (run_once(own, ranks, stop), run_once(own, ranks))
    return whole, parts


def goes_on_as_rank(request_json: str) -> Lineage:
    """A run from what checkpoints there are. In a process that Horovod has started."""
    import tensorflow as tf

    from millrace.training.ranks import Ranks

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    ranks = Ranks(rank=int(os.environ["HOROVOD_RANK"]), world_size=int(os.environ["HOROVOD_SIZE"]))
    return run_once(TrainRequest.from_json(request_json), ranks)
