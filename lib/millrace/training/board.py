"""What TensorBoard shows of a run: one event file of scalars, written anew, whole, from the lineage of the weights.

Steps that were done twice, because a run was killed after them, are in it once. The format is TensorFlow's: records of the Event
message, each with its length and masked CRC-32C (tensorflow/core/util/event.proto).
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass

from millrace.lake import artifacts

_POINTS_PER_EPOCH = 100


@dataclass(frozen=True)
class Point:
    """One value of one curve."""

    tag: str
    step: int
    """Optimizer steps so far."""
    time: float
    """Seconds since 1970."""
    value: float


def is_shown(step_in_epoch: int, num_steps: int) -> bool:
    """Whether a step's loss is a point of the curve: of a long epoch a hundred are."""
    return step_in_epoch % max(1, num_steps // _POINTS_PER_EPOCH) == 0


def write_board(directory: str, points: Iterable[Point]) -> None:
    """Writes the event file of a run, in the place of the one before. `directory` is a path or an fsspec address.

    Raises OSError.
    """
    artifacts.write_bytes(f"{directory.rstrip('/')}/events.out.tfevents.millrace", event_file(points))


def event_file(points: Iterable[Point]) -> bytes:
    """The bytes of an event file."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    content = io.BytesIO()
    records = RecordWriter(content)
    records.write(Event(wall_time=0.0, file_version="brain.Event:2").SerializeToString())
    for point in points:
        summary = Summary(value=[Summary.Value(tag=point.tag, simple_value=point.value)])
        records.write(Event(wall_time=point.time, step=point.step, summary=summary).SerializeToString())
    return content.getvalue()
