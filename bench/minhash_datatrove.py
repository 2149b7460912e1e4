"""datatrove's MinHash pipeline, run by the peers' Python: `python minhash_datatrove.py INPUT WORK words|stock THREADS`.

Four stages as in its example: signatures, buckets, clusters, filter. `stock` is as it comes (English words by spaCy, lower case,
no punctuation or accents, numbers as one); `words` takes the words between white space, as they are. Prints {"seconds",
"num_kept"}; imports are not counted: worker processes are forked from this one, which has done them.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.text import TextNormConfig
from datatrove.utils.word_tokenizers import WordTokenizer


class Words(WordTokenizer):  # type: ignore[misc]
    """What stands between white space."""

    def word_tokenize(self, text: str) -> list[str]:
        """Words."""
        return text.split()

    def sent_tokenize(self, text: str) -> list[str]:
        """Never asked for."""
        raise NotImplementedError

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Never asked for."""
        raise NotImplementedError


def main(source: str, work: str, kind: str, threads: int) -> dict[str, float]:
    """Runs the pipeline."""
    config, language = MinhashConfig(), None
    if kind == "words":
        as_is = TextNormConfig(**dict.fromkeys(TextNormConfig.__dataclass_fields__, False))
        config, language = MinhashConfig(norm_config=as_is), Words()
    began = time.perf_counter()
    stages = [
        ("signatures", [JsonlReader(source), MinhashDedupSignature(f"{work}/signatures", config, language or "eng")], threads),
        ("buckets", [MinhashDedupBuckets(f"{work}/signatures", f"{work}/buckets", config=config)], config.num_buckets),
        ("clusters", [MinhashDedupCluster(f"{work}/buckets", f"{work}/remove", config=config)], 1),
        (
            "filter",
            [JsonlReader(source), MinhashDedupFilter(f"{work}/remove"), JsonlWriter(f"{work}/kept", compression=None)],
            threads,
        ),
    ]
    for name, pipeline, tasks in stages:
        LocalPipelineExecutor(
            pipeline, tasks=tasks, workers=threads, logging_dir=f"{work}/logs/{name}", start_method="fork"
        ).run()
    seconds = time.perf_counter() - began
    kept = [json.loads(line)["id"] for path in Path(work, "kept").iterdir() for line in path.open()]
    Path(work, "kept.json").write_text(json.dumps(kept))
    return {"seconds": seconds, "num_kept": len(kept)}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))))
