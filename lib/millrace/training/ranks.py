"""What the ranks of a run agree on, apart from gradients. With one rank nothing is sent and Horovod is not imported."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence

import keras
import numpy as np

from millrace.errors import TrainingError
from millrace.training.host_sum import open_host_sum
from millrace.training.reduction import Sum, horovod_sum

STAGE = "training"
_QUIET_CYCLE_MILLISECONDS = 10
"""How often Horovod looks for something to send where it has little to do."""


class Ranks:
    """The group of ranks that train together, seen from one of them."""

    def __init__(self, *, rank: int, world_size: int) -> None:
        """Starts Horovod where there is more than one rank."""
        self.rank, self.world_size = rank, world_size
        self.add: Sum = horovod_sum
        """Adds buffers up in a graph, by the shortest way that there is."""
        if world_size > 1:
            import horovod.tensorflow as hvd

            if os.environ.get("HOROVOD_LOCAL_SIZE") == str(world_size):  # then gradients go by memory, and its looking takes time
                os.environ["HOROVOD_CYCLE_TIME"] = str(_QUIET_CYCLE_MILLISECONDS)
            hvd.init()
            assert (hvd.rank(), hvd.size()) == (rank, world_size)
            self.add = open_host_sum(rank, world_size) or horovod_sum

    def broadcast(self, variables: Sequence[keras.Variable]) -> None:
        """Gives every rank the variables of rank 0."""
        if self.world_size > 1:
            import horovod.tensorflow as hvd

            hvd.broadcast_variables([variable.value for variable in variables], root_rank=0)

    def broadcast_text(self, text: str | None) -> str:
        """Gives every rank the text of rank 0; the others pass None."""
        if self.world_size == 1:
            assert text is not None
            return text
        import horovod.tensorflow as hvd

        words = np.frombuffer((text or "").encode(), dtype=np.uint8)
        size = int(hvd.broadcast(np.array([words.size], dtype=np.int64), root_rank=0, name="text_size").numpy()[0])
        sent = words if self.rank == 0 else np.zeros(size, dtype=np.uint8)
        return bytes(hvd.broadcast(sent, root_rank=0, name="text").numpy().tobytes()).decode() if size else ""

    def sum(self, values: Sequence[float], *, name: str) -> list[float]:
        """Each value added up over the ranks, in float64."""
        if self.world_size == 1:
            return list(values)
        import horovod.tensorflow as hvd

        total = hvd.allreduce(np.asarray(values, dtype=np.float64), op=hvd.Sum, name=name)
        return [float(value) for value in total.numpy()]

    def barrier(self, name: str) -> None:
        """Waits until every rank is here."""
        self.sum([0.0], name=name)

    def same_hash(self, variables: Sequence[keras.Variable], *, where: str, beat: Callable[[], None] = lambda: None) -> str:
        """SHA-256 in hex of the variables' bytes; `beat` is called as the work goes on.

        Raises TrainingError, on every rank, where the ranks' hashes differ.
        """
        digest = weight_hash(variables, beat)
        if self.world_size > 1:
            import horovod.tensorflow as hvd

            mine = np.frombuffer(bytes.fromhex(digest), dtype=np.uint8)[np.newaxis]
            everybodys = hvd.allgather(mine, name="weight_hash").numpy()  # (ranks, 32)
            others = [rank for rank in range(self.world_size) if bytes(everybodys[rank]) != bytes(everybodys[0])]
            if others:
                raise TrainingError(
                    STAGE,
                    expected=f"the same weights and optimizer state on every rank {where}",
                    found=f"others than rank 0's on ranks {', '.join(map(str, others))}",
                    remedy="Run again; if it happens again, the ranks run different software or hardware: make them alike.",
                    retry=True,
                )
        return digest


def weight_hash(variables: Sequence[keras.Variable], beat: Callable[[], None] = lambda: None) -> str:
    """SHA-256 in hex of the variables' types, shapes and bytes, in the order given."""
    digest = hashlib.sha256()
    for variable in variables:
        array = np.ascontiguousarray(variable.numpy())
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
        beat()
    return digest.hexdigest()
