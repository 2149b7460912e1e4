"""The saved tokenizers beside an export. A predictor made of both takes silver's texts, whatever the export itself takes.

jieba, BPE and WordPiece cannot be TensorFlow operations, so every export takes their ids. A SavedModel has words and characters
in its graph (`exporting/text.py`) and takes their texts itself; Keras' own formats hold no such graph, and take ids of these too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from millrace.contracts.cutting import without_surrogates
from millrace.contracts.tokenizer import SavedTokenizer
from millrace.errors import ContractError, ExportError
from millrace.exporting.predictor import STRING, Batch, InputSpec, Predictor, Scores
from millrace.exporting.text import is_exportable
from millrace.transforms.encoders import Fit, make_encoder

FILE_NAME = "tokenizers.json"
"""Its place is the directory of the exports."""
FORMAT = "millrace-tokenizers-1"
Ids = npt.NDArray[np.int32]


@dataclass(frozen=True)
class TextInput:
    """How a column of texts becomes the input of its name, (B, fit.length) int32. Raises ExportError without a length."""

    tokenizer: SavedTokenizer
    fit: Fit

    def __post_init__(self) -> None:
        if self.fit.length is None:
            raise ExportError(
                "export",
                expected="texts as ids of one length",
                found=f"ids of {self.tokenizer.kind}, as many as a text has",
                remedy="Give the feature a length.",
            )

    @property
    def has_graph(self) -> bool:
        """Whether TensorFlow can do it."""
        return is_exportable(self.tokenizer)

    def encoder(self) -> Callable[[Sequence[str]], Ids]:
        """Texts to ids, as Spark gives them. Raises ContractError where this machine's jieba is another one."""
        encode, fit, length = make_encoder(self.tokenizer), self.fit, self.fit.length
        assert length is not None

        def ids_of(texts: Sequence[str]) -> Ids:
            return np.frombuffer(b"".join(map(fit, encode(texts))), np.int32).reshape(len(texts), length)

        return ids_of


def write(texts: Mapping[str, TextInput], directory: Path) -> Path:
    """Writes the tokenizers of a model's columns of texts, by their names, beside its exports. Gives the file's path."""
    path = directory / FILE_NAME
    columns = {name: {"tokenizer": each.tokenizer.to_json(), "fit": asdict(each.fit)} for name, each in texts.items()}
    directory.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".partial")
    unfinished.write_text(json.dumps({"format": FORMAT, "columns": columns}, ensure_ascii=False, sort_keys=True), "utf-8")
    unfinished.replace(path)
    return path


def read(directory: Path) -> dict[str, TextInput]:
    """What `write` wrote; nothing where no model there takes texts. Raises ExportError where it is something else."""
    path = directory / FILE_NAME
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text("utf-8"))
        if found["format"] != FORMAT:
            raise ValueError(f"the format {found['format']}")
        return {
            name: TextInput(SavedTokenizer.from_json(each["tokenizer"]), Fit(**each["fit"]))
            for name, each in found["columns"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ContractError) as error:
        raise ExportError(
            "load", expected=f"the tokenizers of the export in {path}", found=str(error), remedy="Publish the run again."
        ) from None


def taking_texts(predict: Predictor, texts: Mapping[str, TextInput]) -> Predictor:
    """A predictor that takes texts in the columns of `texts`: str, or bytes of UTF-8; None and "" are a text without tokens.

    What is no UTF-8 becomes U+FFFD, each byte of a lone surrogate too, as in Spark.
    """
    if not texts:
        return predict
    encoders = {name: each.encoder() for name, each in texts.items() if predict.takes[name].dtype != STRING}

    def run(chunk: dict[str, Batch]) -> Scores:
        clean = {name: [_clean(text) for text in chunk[name].tolist()] for name in texts}
        given = {name: encoders[name](each) if name in encoders else np.array(each, dtype=object) for name, each in clean.items()}
        return predict.run({**chunk, **given})

    takes = {**predict.takes, **dict.fromkeys(texts, InputSpec(shape=(), dtype=STRING))}
    return Predictor(run, takes=takes, num_scores=predict.num_scores)


def _clean(text: str | bytes | None) -> str:
    if isinstance(text, bytes):
        return text.decode("utf-8", "replace")
    return without_surrogates(text or "")
