"""Planning an epoch of 1,000,000 row groups for 1,024 ranks: arithmetic alone, no data.

Every round is a process of its own, so that its peak memory is the plan's. `plan_seconds` is the plan with its fingerprints, the
reading list of one rank, and then those of all 1,024, which no single process ever needs. Reading the index, which a rank does
before, stands beside it; the peak memory includes it.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import commands
from bench.report import Bound, Figure, Result

ROOT = Path(__file__).resolve().parent.parent
NUM_ROW_GROUPS = 1_000_000
NUM_FILES = 10_000
NUM_RANKS = 1_024
GLOBAL_BATCH = 32_768
WINDOW_STEPS = 64
MAX_SECONDS = 10.0
MAX_MEMORY_GIB = 1.0
_TIMEOUT_SECONDS = 600.0


def run(num_rounds: int) -> Result:
    """Measure `num_rounds` rounds. Raises MillraceError where the process fails."""
    rounds = []
    for number in range(1, num_rounds + 1):
        print(f"bench plan: round {number}/{num_rounds}", file=sys.stderr, flush=True)
        done = commands.run(
            [sys.executable, "-m", "bench.plan"], cwd=ROOT, environment=os.environ, timeout_seconds=_TIMEOUT_SECONDS
        )
        rounds.append(json.loads(done.stdout.splitlines()[-1]))
    return summarise(rounds)


def summarise(rounds: Sequence[Mapping[str, float]]) -> Result:
    """Medians over the rounds, and the bounds."""
    medians = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    units = {"plan_memory_gib": "GiB", "num_row_groups": "row groups", "num_ranks": "ranks", "num_pieces": "pieces"}
    return Result(
        figures=[Figure(name, value, units.get(name, "s")) for name, value in medians.items()],
        bounds=[
            Bound("plan_seconds", medians["plan_seconds"], "<=", MAX_SECONDS),
            Bound("plan_memory_gib", medians["plan_memory_gib"], "<=", MAX_MEMORY_GIB),
        ],
    )


def measure() -> dict[str, float]:
    """One round, in this process: seconds, and the process's peak memory."""
    from millrace.loading.epoch import EpochPlan
    from millrace.loading.index import DatasetIndex
    from millrace.loading.plan import PlanSpec, shards_of_rank

    text = _index_text()
    began = time.perf_counter()
    index = DatasetIndex.from_json(text)
    read = time.perf_counter()
    spec = PlanSpec(
        seed=7,
        global_batch=GLOBAL_BATCH,
        virtual_shards=NUM_RANKS,
        window_rows=WINDOW_STEPS * (GLOBAL_BATCH // NUM_RANKS),
        row_group_rows=index.row_group_rows(),
        dataset=index.fingerprint(),
    )
    spec.fingerprint()
    specified = time.perf_counter()
    plan = EpochPlan(spec, 0)
    plan.pieces(shards_of_rank(NUM_RANKS, NUM_RANKS, NUM_RANKS // 2)).read_order()
    one_rank = time.perf_counter()
    num_rows = num_pieces = 0
    for rank in range(NUM_RANKS):
        pieces = plan.pieces(shards_of_rank(NUM_RANKS, NUM_RANKS, rank))
        pieces.read_order()
        num_rows, num_pieces = num_rows + int(pieces.num_rows.sum()), num_pieces + pieces.num_rows.size
    all_ranks = time.perf_counter()
    assert num_rows == spec.num_rows, "every row once"
    return {
        "plan_seconds": all_ranks - read,
        "plan_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "index_from_text": read - began,
        "plan_and_fingerprints": specified - read,
        "epoch_of_one_rank": one_rank - specified,
        "epoch_of_all_ranks": all_ranks - one_rank,
        "num_row_groups": NUM_ROW_GROUPS,
        "num_ranks": NUM_RANKS,
        "num_pieces": num_pieces,
    }


def _index_text() -> str:
    """An index of row groups of 4,000 to 6,000 rows, as a rank gets it."""
    per_file = NUM_ROW_GROUPS // NUM_FILES
    groups = [[number // per_file, number % per_file, 4_000 + number * 7919 % 2_001] for number in range(NUM_ROW_GROUPS)]
    files = [f"s3://lake/gold/t/split=train/part-{number:05d}-{number:032x}.c000.parquet" for number in range(NUM_FILES)]
    content = {"format": 1, "uri": "s3://lake/gold/t", "version": 3, "partitions": [["split", "train"]]}
    return json.dumps({**content, "files": files, "row_groups": groups})


if __name__ == "__main__":
    print(json.dumps(measure()))
