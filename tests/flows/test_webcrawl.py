"""The pipeline webcrawl over files of all its formats, in two nights: one clean corpus, and where all the rest went."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import zstandard
from click.testing import CliRunner
from pyspark.sql import SparkSession

from millrace.cli import cli
from millrace.flows import ingest, preprocess
from millrace.flows.job import run
from millrace.flows.nightly import only
from millrace.lake import log
from millrace.lake.layout import Lake
from millrace.lake.ledger import Ledger
from tests.flows.pipelines import FIRST, SECOND
from tests.sources.broken_files import page, warc, write

Row = dict[str, object]
ADJECTIVES = "old quiet heavy northern wooden narrow bright distant careful broken silver early".split()  # noqa: SIM905
NOUNS = "river wheel miller bridge meadow harvest stone lantern winter orchard village cellar ferry roof garden".split()  # noqa: SIM905
VERBS = "carries follows remembers repairs crosses watches measures leaves reaches turns".split()  # noqa: SIM905
FRENCH = "Le moulin de la vallée est fermé pendant l'hiver, et les habitants attendent le retour du printemps. " * 8
MENU = "<ul>" + "".join(f"<li><a href='/{noun}'>{noun}</a></li>" for noun in NOUNS) + "</ul>"
ODD_PAGES = {
    "gone": warc(b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n\r\n<p>gone</p>"),
    "style": warc(b"HTTP/1.1 200 OK\r\nContent-Type: text/css\r\n\r\np {}"),
    "picture": warc(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n\x89PNG\xff\xfe"),
}


def article(seed: int, *, num_lines: int = 6) -> str:
    """Lines of three sentences of which no other seed has many."""
    draw = random.Random(seed)

    def sentence() -> str:
        first, second, third = (f"the {draw.choice(ADJECTIVES)} {draw.choice(NOUNS)}" for _ in range(3))
        return f"{first.capitalize()} {draw.choice(VERBS)} {second} and {draw.choice(VERBS)} {third}."

    return "\n".join(" ".join(sentence() for _ in range(3)) for _ in range(num_lines))


def response(text: str, title: str = "A page") -> bytes:
    """A web page as it is crawled, with a menu around its text."""
    body = "".join(f"<p>{line}</p>" for line in text.split("\n"))
    content = f"<nav>{MENU}</nav><article>{body}</article><footer>{MENU}</footer>"
    html = f"<html><head><title>{title}</title></head><body>{content}</body></html>"
    return warc(page(html.encode()))


def line(text: str, **more: object) -> bytes:
    return json.dumps({"id": "http://b/", "created": "2026-11-20T00:00:00Z", "text": text, **more}).encode() + b"\n"


class Crawl:
    """The shipped pipeline over a directory of its own."""

    def __init__(self, directory: Path, spark: SparkSession) -> None:
        self.raw, self.lake, self.spark = directory / "raw", Lake.at(str(directory / "lake")), spark

    def night(self, night: str, files: dict[str, bytes], *steps: Any) -> list[int]:
        write(self.raw, files)
        options = [f"source.path={self.raw}", "quality.max_reject_ratio=0.1", "blocks.length=64"]
        arguments = ["--pipeline", "webcrawl", "--lake", self.lake.uri, "--night", night]
        arguments += [word for option in options for word in ("--set", option)]
        return [run(only(step), "", arguments, spark=self.spark) for step in steps or (ingest.step, preprocess.step)]

    def rows(self, table: str) -> list[Row]:
        version = Ledger.read(self.lake).version_of(table)
        rows: list[Row] = log.read_rows(self.lake.path(table), version=version).to_pylist()
        return rows

    def rules(self, table: str) -> Counter[tuple[object, object]]:
        return Counter((row["_night"], row["rule"]) for row in self.rows(table))


@pytest.fixture
def crawl(tmp_path: Path, spark: SparkSession) -> Crawl:
    return Crawl(tmp_path, spark)


def test_a_night_takes_what_is_new_in_whatever_format(crawl: Crawl) -> None:
    """Up to bronze."""
    assert crawl.night(FIRST, {"a.warc.gz": gzip.compress(response("one") + response("two"))}, ingest.step) == [0]
    lines = [*(line("four") for _ in range(9)), b'{"text": "four"\n']
    conversion = gzip.compress(warc(b"three", kind="conversion"))
    assert crawl.night(SECOND, {"b.wet.gz": conversion, "c.json.zst": zstandard.compress(b"".join(lines))}, ingest.step) == [0]
    rows = crawl.rows("bronze/webcrawl")
    assert Counter((row["_night"], row["html"] is None, row["text"]) for row in rows) == {
        (FIRST, False, None): 2,
        (SECOND, True, "three"): 1,
        (SECOND, True, "four"): 9,
    }
    assert crawl.rules("quarantine/sources/webcrawl") == {(SECOND, "not_json"): 1}
    taken = [[Path(file.path).name for file in entry.inputs.files] for entry in Ledger.read(crawl.lake).entries]
    assert taken == [["a.warc.gz"]] * 2 + [["b.wet.gz", "c.json.zst"]] * 2  # started, succeeded


@pytest.mark.full
def test_two_nights(crawl: Crawl, tmp_path: Path) -> None:
    """All that the pipeline does, on two nights. It takes over 20 s: each of Spark's Python workers loads what texts need."""
    texts = [article(seed) for seed in range(12)]
    responses = [response(text) for text in texts]
    again = response(texts[0], title="The same text at another place")
    first = [*responses, again, response(FRENCH), response("Too short."), *ODD_PAGES.values()]
    assert crawl.night(FIRST, {"a.warc.gz": b"".join(map(gzip.compress, first)), "notes.md": b"no data"}) == [0, 0]
    assert crawl.rules("quarantine/sources/webcrawl") == {(FIRST, "wrong_encoding"): 1}
    assert crawl.rules("quarantine/pipelines/webcrawl") == {
        (FIRST, "status_is_not_200"): 1,
        (FIRST, "content_is_no_page"): 1,
        (FIRST, "language(text)"): 1,
        (FIRST, "gopher_too_few_words(text)"): 1,
        (FIRST, "drop_duplicates(text)"): 1,
    }
    silver = {str(row["text"]): row for row in crawl.rows("silver/webcrawl")}
    assert set(silver) == set(texts)
    assert {(row["language"], row["html"], row["status"], row["url"]) for row in silver.values()} == {
        ("en", None, 200, "http://a/")
    }

    near = texts[1].replace("river", "brook", 1) if "river" in texts[1] else texts[1] + " The end of it comes early."
    fresh = [article(seed) for seed in range(50, 55)]
    mangled = "It\u2019s the miller\u2019s word that counts. ".encode().decode("cp1252")
    lines = [line(text) for text in (*fresh[:3], texts[2])]
    lines += [line(f"{mangled}{fresh[3]} Write to anna@example.org or wait."), b"{\n"]
    language = "WARC-Identified-Content-Language: eng"
    conversions = [warc(text.encode(), kind="conversion", more=language) for text in (near, fresh[4])]
    files = {"b.jsonl.zst": zstandard.compress(b"".join(lines)), "c/d.warc.wet.gz": gzip.compress(b"".join(conversions))}
    assert crawl.night(SECOND, files) == [2, 0]  # one line of eight is too many
    files["b.jsonl.zst"] = zstandard.compress(b"".join([*lines, *(line(article(seed)) for seed in range(60, 64))]))
    assert crawl.night(SECOND, files) == [0, 0]
    assert crawl.rules("quarantine/sources/webcrawl") == {(FIRST, "wrong_encoding"): 1, (SECOND, "not_json"): 1}
    rejected = crawl.rules("quarantine/pipelines/webcrawl")
    assert {rule: number for (night, rule), number in rejected.items() if night == SECOND} == {
        "drop_duplicates(text)": 1,
        "near_duplicates(text)": 1,
    }
    rows = {str(row["text"]): row for row in crawl.rows("silver/webcrawl")}
    assert {text: rows[text] for text in silver} == silver
    assert len(crawl.rows("bronze/webcrawl")) == len(rows) + rejected.total() == 17 + 11
    masked = f"It\u2019s the miller\u2019s word that counts. {fresh[3]} Write to <EMAIL> or wait."
    assert {*fresh[:3], masked, fresh[4]} < set(rows)
    assert (rows[fresh[4]]["declared"], rows[fresh[4]]["url"], rows[fresh[0]]["url"]) == ("eng", "http://a/", "http://b/")

    gold = crawl.rows("gold/webcrawl")
    assert {row["_night"] for row in gold} == {FIRST, SECOND}
    assert {len(bytes(row["text"])) for row in gold} == {4 * 64}  # type: ignore[arg-type]
    out = tmp_path / "corpus.jsonl"
    query = "SELECT url, date, language, text FROM silver_webcrawl WHERE split = 'train'"
    done = CliRunner().invoke(cli, ["export-table", query, "--lake", crawl.lake.uri, "--format", "jsonl", "--out", str(out)])
    assert done.exit_code == 0, done.output
    corpus = [json.loads(each) for each in out.read_text().splitlines()]
    assert {each["text"] for each in corpus} == {text for text, row in rows.items() if row["split"] == "train"}
    assert {each["date"] for each in corpus} == {"2026-11-22T00:00:00+00:00", "2026-11-20T00:00:00+00:00"}


def test_a_file_of_no_part_changes_nothing(crawl: Crawl, capsys: pytest.CaptureFixture[str]) -> None:
    assert crawl.night(
        FIRST, {"a.warc.gz": gzip.compress(response(article(0))), "b.html": b"<p>no archive</p>"}, ingest.step
    ) == [2]
    errors = [text for text in capsys.readouterr().err.splitlines() if " error " in text]
    assert errors[0].partition(" error   ")[2] == (
        "ingest: expected files that a part of the source takes (.warc, .wet, .jsonl, .json; .gz, .bz2, .zst, .zip may follow); "
        f"found {crawl.raw}/b.html. "
        "Add a part, give a part these suffixes, move the files away, or name their endings in source.ignore."
    )
    assert not log.exists(crawl.lake.path("bronze/webcrawl"))
