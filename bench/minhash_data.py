"""Documents for the near-duplicate benchmark: passages of the shared corpora, and copies of some with seeded edits."""

from __future__ import annotations

import csv
import json
import random
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from millrace.errors import SourceError

NUM_DOCUMENTS = 100_000
_CORPORA = ("imdb", "ag_news", "rt_polarity", "wikitext2_eval", "plato_republic", "tiny_shakespeare")
_MIN_WORDS, _MAX_WORDS = 40, 120


def documents(data: Path, num_documents: int, seed: int) -> list[str]:
    """Passages of 40 to 120 words, each once, and 2 copies in 5 documents: with edits that leave a similarity of 0.4 to 1.

    Raises SourceError where a corpus is missing or there is too little text.
    """
    draw = random.Random(seed)  # noqa: S311
    passages = list(dict.fromkeys(_passages(data, draw)))
    num_copies = num_documents * 2 // 5
    if len(passages) < num_documents - num_copies:
        num_copies = num_documents - len(passages)
    base = passages[: num_documents - num_copies]
    copies = [_edited(base[draw.randrange(len(base))], draw) for _ in range(num_copies)]
    everything = [*base, *copies]
    draw.shuffle(everything)
    return everything


def write(texts: Sequence[str], directory: Path, num_files: int) -> None:
    """The documents as jsonl, one after the other; id is the place in the list."""
    directory.mkdir(parents=True)
    step = -(-len(texts) // num_files)
    for number in range(num_files):
        with (directory / f"{number:05d}.jsonl").open("w") as stream:
            for place in range(number * step, min(len(texts), (number + 1) * step)):
                stream.write(json.dumps({"id": f"{place:08d}", "text": texts[place]}) + "\n")


def _passages(data: Path, draw: random.Random) -> Iterator[str]:
    for name in _CORPORA:
        if not (data / name).is_dir():
            raise SourceError(
                "bench minhash",
                expected=f"the corpus {name} in {data}",
                found="no such directory",
                remedy="Set MILLRACE_DATA to the directory that holds it.",
            )
        waiting: list[str] = []
        for text in _texts(data / name):
            waiting += text.split()
            while len(waiting) >= _MAX_WORDS:
                length = draw.randint(_MIN_WORDS, _MAX_WORDS)
                yield " ".join(waiting[:length])
                waiting = waiting[length:]


def _texts(corpus: Path) -> Iterator[str]:
    for path in sorted(corpus.iterdir()):
        if path.suffix == ".gz":
            with tarfile.open(path) as archive:
                for member in archive:  # in its own order: going back would unpack all again
                    stream = archive.extractfile(member)
                    if stream is not None:
                        yield stream.read().decode(errors="replace").replace("<br />", " ")
        elif path.suffix == ".csv":
            with path.open(newline="") as lines:
                yield from (" ".join(row[1:]) for row in csv.reader(lines))
        elif path.name not in {"SOURCE.md", "readme.txt", "classes.txt"}:
            yield path.read_text(errors="replace")


def _edited(text: str, draw: random.Random) -> str:
    """A copy with 0 to 8 words exchanged, taken out, doubled, or with its end cut off."""
    words = text.split()
    for _ in range(draw.choice((0, 1, 1, 1, 2, 2, 3, 4, 8))):
        place = draw.randrange(len(words))
        edit = draw.randrange(4)
        if edit == 0:
            words[place] = words[draw.randrange(len(words))]
        elif edit == 1 and len(words) > 20:
            del words[place]
        elif edit == 2:
            words.insert(place, words[place])
        elif len(words) > 30:
            del words[-draw.randint(1, 5) :]
    return " ".join(words)
