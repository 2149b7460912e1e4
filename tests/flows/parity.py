"""What Spark wrote into gold beside what the exported graph and the saved tokenizers say of silver's rows: of all of them."""

from __future__ import annotations

import warnings
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from millrace.config.tokens import BlocksConfig, Tokens
from millrace.contracts.tokenizer import SavedTokenizer
from millrace.flows.context import Context
from millrace.transforms.encoders import Fit
from millrace.transforms.identity import python_hash_number
from tests.flows.encoded import Encoded
from tests.flows.peers import check_peers, tokens_of

_BATCH_ROWS = 8192
_BATCH_TEXTS = 1024


def check_vectors(encoded: Encoded, directory: Path) -> None:
    """`features` and `ids` are what the exported graph gives, as a SavedModel that is read back."""
    import tensorflow as tf

    from millrace.exporting import saved_model
    from tests.feature_twins import as_model, assert_equal, tensors

    fitted = encoded.state.features
    if fitted is None:
        return
    saved_model.write(as_model(fitted), directory / "graph")
    loaded = tf.saved_model.load(str(directory / "graph"))
    num_rows = encoded.gold.num_rows
    features = encoded.packed("features", "<f4") if fitted.width else np.zeros((num_rows, 0), np.float32)
    ids = encoded.packed("ids", "<i4") if fitted.id_names else np.zeros((num_rows, 0), np.int32)
    for first in range(0, num_rows, _BATCH_ROWS):
        (batch,) = encoded.silver.slice(first, _BATCH_ROWS).combine_chunks().to_batches()
        rows = slice(first, first + _BATCH_ROWS)
        found = loaded.signatures["serving_default"](**tensors(batch, fitted))
        assert_equal(found, features[rows], ids[rows], fitted)


def check_tensors_and_labels(encoded: Encoded) -> None:
    """Tensors are silver's bytes; a class is its place among the classes, a number a float32."""
    for feature in encoded.config.image_features:
        assert encoded.gold.column(feature.column).equals(encoded.silver.column(feature.column))
    label = encoded.config.label
    if label is None:
        return
    given, found = encoded.silver.column(label.column).to_pylist(), encoded.gold.column("label").to_pylist()
    if label.kind == "number":
        assert found == [float(np.float32(value)) for value in given]
    else:
        assert found == [encoded.state.classes.index(str(value)) for value in given]


def check_tokens(encoded: Encoded, ids: dict[str, list[list[int]]]) -> None:
    """Each column of tokens has the ids of the saved tokenizer; so has the graph, where TensorFlow can do it.

    `ids`: by column, of each row of silver, before they are padded.
    """
    import keras
    import tensorflow as tf

    from millrace.exporting.text import is_exportable, text_to_ids

    for feature in encoded.config.token_features:
        if encoded.config.blocks is not None:
            check_blocks(encoded, feature, ids[feature.column])
            continue
        if feature.length is None:
            assert [array("i", data).tolist() for data in encoded.gold.column(feature.column).to_pylist()] == ids[feature.column]
            continue
        found = encoded.packed(feature.column, "<i4")
        sides: Any = {"padding": feature.padding, "truncating": feature.truncating, "value": feature.pad_id}
        np.testing.assert_array_equal(found, keras.utils.pad_sequences(ids[feature.column], feature.length, **sides))
        saved = encoded.state.tokenizers[feature.column]
        if is_exportable(saved):
            graph, texts = text_to_ids(saved, Fit.of(feature)), encoded.texts(feature.column)
            for first in range(0, len(texts), _BATCH_TEXTS):
                rows = slice(first, first + _BATCH_TEXTS)
                np.testing.assert_array_equal(graph(tf.constant([text.encode() for text in texts[rows]])).numpy(), found[rows])


def check_blocks(encoded: Encoded, feature: Tokens, ids: Sequence[Sequence[int]]) -> None:
    """Gold's blocks are the documents behind one another, cut by hand."""
    config, saved = encoded.config.blocks, encoded.state.tokenizers[feature.column]
    assert config is not None and config.stride is None and not config.group_by
    documents = [
        (*_place(config, row), list(tokens) + ([] if saved.boundary_id is None else [saved.boundary_id]))
        for row, tokens in zip(encoded.silver.drop_columns([feature.column]).to_pylist(), ids, strict=True)
    ]
    lines: dict[tuple[Any, ...], list[int]] = {}
    for group, _, tokens in sorted(documents, key=lambda document: document[:2]):
        lines.setdefault(group, []).extend(tokens)
    expected: Counter[tuple[Any, bytes]] = Counter()
    for group, line in lines.items():
        padding = [feature.pad_id] * (-len(line) % config.length) if config.tail == "pad" else []
        whole = line + padding
        starts = range(0, len(whole) - config.length + 1, config.length)
        expected.update((group[0], array("i", whole[first : first + config.length]).tobytes()) for first in starts)
    gold = encoded.gold
    assert Counter(zip(gold.column("split").to_pylist(), gold.column(feature.column).to_pylist(), strict=True)) == expected


def _place(config: BlocksConfig, row: dict[str, Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Which line a document stands in, and where."""
    group = (row["split"], row["_night"])
    if config.order == "given":
        return group, (*(row[name] for name in config.order_by), row["row_id"])
    number = python_hash_number(row["row_id"].encode(), seed=config.seed)
    return (*group, number * config.buckets >> 60), (number, row["row_id"])


def ids_of_saved(saved: SavedTokenizer, texts: Sequence[str], tokens: Iterator[list[str]]) -> list[list[int]]:
    """What a saved tokenizer says of whole texts: by the `tokenizers` library, or by a look into the vocabulary."""
    if saved.tokenizer_json:
        tokenizer = Tokenizer.from_str(saved.tokenizer_json)
        return [encoding.ids for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)]
    known, unknown = saved.ids, [] if saved.oov_id is None else [saved.oov_id]
    return [[number for token in each for number in ([known[token]] if token in known else unknown)] for each in tokens]


def check_export_of_texts(encoded: Encoded, directory: Path) -> None:
    """A model of token ids that is exported as `publish` does: from silver's texts it gives what it gives for gold's ids."""
    import keras

    from millrace.config.models import PublishConfig
    from millrace.exporting.serving_model import predictor, serving_model
    from millrace.flows import publish
    from millrace.flows.evaluate import TestSplit, evaluate

    if len(encoded.config.token_features) != 1 or encoded.config.label is None:
        return
    texts = publish.texts_of(encoded.context, encoded.state)
    ((column, text),) = texts.items()
    ids = keras.Input((text.fit.length,), dtype="int32", name=column)
    embedded = keras.layers.Embedding(text.tokenizer.num_ids, 8, embeddings_initializer=keras.initializers.RandomNormal(seed=1))(
        ids
    )
    logits = keras.layers.Dense(len(encoded.state.classes))(keras.layers.Flatten()(embedded))
    model = serving_model(keras.Model(ids, logits))
    config = encoded.config.model_copy(update={"publish": PublishConfig(exports=("keras", "h5", "saved_model"))})
    context = Context(encoded.context.spark, encoded.lake, config, encoded.context.contract, encoded.context.run)
    rows = TestSplit(context, encoded.gold_version, encoded.state)
    exports, _ = publish.export_all(context, model, directory, texts=texts, probe=rows.probe())
    sums = publish.checksums({**exports, **publish.write_tokenizers(texts, directory)})
    assert sorted(sums) == ["h5", "keras", "saved_model", "tokenizers"]
    of_gold = dict(zip(encoded.gold.column("row_id").to_pylist(), encoded.packed(column, "<i4"), strict=True))
    for evaluated in evaluate(rows, exports, classes=encoded.state.classes).values():
        expected = predictor(model)(np.stack([of_gold[row_id] for row_id in evaluated.row_ids]))
        np.testing.assert_allclose(evaluated.scores, expected, rtol=1e-6, atol=1e-6)
        assert evaluated.num_rows == (encoded.gold.column("split").to_pylist()).count("test")


def check_encoded(encoded: Encoded, directory: Path) -> None:
    """All of the above."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Keras' old modules, and of what jieba imports
        check_vectors(encoded, directory)
        ids = {}
        for feature in encoded.config.token_features:
            texts = encoded.texts(feature.column)
            tokens = tokens_of(encoded, feature, texts, directory)
            ids[feature.column] = ids_of_saved(encoded.state.tokenizers[feature.column], texts, iter(tokens))
        check_tokens(encoded, ids)
        if not encoded.config.changes_grain:
            check_tensors_and_labels(encoded)
            check_peers(encoded)
            check_export_of_texts(encoded, directory / "exports")
