"""A step's time on many workers, on paper: `python -m bench.scaling` prints the tables of SCALING.md, which has the formulas."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
NUM_SUMS = 5
"""Numbers that travel behind the gradients: sums of loss, weights and correct rows, the weight in the loss, and wishes."""
CHUNK_BYTES = 64 * 2**20
"""The largest buffer that is sent as a whole; one waits for the one before."""
PARAMETERS = {"mlp": 407_050, "cnn": 421_642}
"""Of the models in training_peers.py."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a step costs on one worker, and what stands between workers."""

    num_parameters: int
    compute_seconds: float
    """Forward, backward and update of one rank's rows, measured on one worker."""
    bytes_per_second: float = 1.25e9
    """Of one worker's link, each way: 10 Gbit/s."""
    latency_seconds: float = 25e-6
    """Of one message: TCP within a data centre."""
    cycle_seconds: float = 0.002
    """How often Horovod looks for work (HOROVOD_CYCLE_TIME)."""
    jitter: float = 0.02
    """Deviation of a rank's compute time, as a share of it."""


SETTINGS = {
    "MLP 784-512-10, 128 rows a worker": Setting(num_parameters=PARAMETERS["mlp"], compute_seconds=0.0053),
    "Small CNN, 128 rows a worker": Setting(num_parameters=PARAMETERS["cnn"], compute_seconds=0.03),
    "100 million parameters, 0.5 s of compute, 100 Gbit/s": Setting(
        num_parameters=100_000_000, compute_seconds=0.5, bytes_per_second=1.25e10
    ),
}
"""The tables of SCALING.md."""


def bytes_sent(num_parameters: int, ranks: int) -> float:
    """Bytes that each rank sends, and receives, in a step: a ring all-reduce of one float32 buffer (Patarasuk and Yuan, 2009)."""
    return 2 * (ranks - 1) / ranks * 4 * (num_parameters + NUM_SUMS)


def num_chunks(num_parameters: int) -> int:
    """Buffers that gradients and sums travel in."""
    return math.ceil(4 * (num_parameters + NUM_SUMS) / CHUNK_BYTES)


def ring_seconds(setting: Setting, ranks: int) -> float:
    """Ring all-reduces: 2 (W - 1) messages behind one another for each buffer."""
    return _moving_seconds(setting, ranks, num_messages=2 * (ranks - 1))


def halving_seconds(setting: Setting, ranks: int) -> float:
    """Recursive halving and doubling: as many bytes in 2 log2 W messages (Thakur, Rabenseifner and Gropp, 2005)."""
    return _moving_seconds(setting, ranks, num_messages=2 * math.ceil(math.log2(ranks)))


def _moving_seconds(setting: Setting, ranks: int, *, num_messages: int) -> float:
    latency = num_chunks(setting.num_parameters) * num_messages * setting.latency_seconds
    return latency + bytes_sent(setting.num_parameters, ranks) / setting.bytes_per_second


def waiting_seconds(setting: Setting, ranks: int) -> float:
    """What passes before buffers move: for each, half a cycle and the ranks' agreement; and once, the slowest rank."""
    if ranks == 1:
        return 0.0
    agreement = 2 * math.ceil(math.log2(ranks)) * setting.latency_seconds
    slowest = setting.jitter * math.sqrt(2 * math.log(ranks)) * setting.compute_seconds
    return num_chunks(setting.num_parameters) * (setting.cycle_seconds / 2 + agreement) + slowest


def step_seconds(setting: Setting, ranks: int, *, halving: bool = False) -> float:
    """A step in which every rank has as many rows as the one worker had; nothing is overlapped."""
    moving = halving_seconds(setting, ranks) if halving else ring_seconds(setting, ranks)
    return setting.compute_seconds + waiting_seconds(setting, ranks) + moving


def efficiency(setting: Setting, ranks: int, *, halving: bool = False) -> float:
    """Rows per second of all ranks over `ranks` times those of one."""
    return setting.compute_seconds / step_seconds(setting, ranks, halving=halving)


def table(setting: Setting) -> Iterator[str]:
    """Lines of Markdown, one for each number of ranks."""
    yield "| workers | MB sent by each | waiting, ms | ring, ms | step, ms | efficiency | with halving and doubling |"
    yield "|---:|---:|---:|---:|---:|---:|---:|"
    for ranks in RANKS:
        cells = (
            f"{ranks:,}",
            f"{bytes_sent(setting.num_parameters, ranks) / 1e6:.2f}",
            f"{1000 * waiting_seconds(setting, ranks):.2f}",
            f"{1000 * ring_seconds(setting, ranks):.2f}",
            f"{1000 * step_seconds(setting, ranks):.1f}",
            f"{efficiency(setting, ranks):.2f}",
            f"{efficiency(setting, ranks, halving=True):.2f}",
        )
        yield f"| {' | '.join(cells)} |"


def document() -> str:
    """All tables, as they stand in SCALING.md."""
    parts = []
    for name, setting in SETTINGS.items():
        head = f"### {name}\n\n{setting.num_parameters:,} parameters, {1000 * setting.compute_seconds:g} ms of compute a step."
        parts.append("\n".join([head, "", *table(setting)]))
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Print the tables."""
    print(document(), end="")


if __name__ == "__main__":
    main()
