"""Small data sets that come with a package, written as raw files where a source has none yet."""

from __future__ import annotations

import csv
import io

from millrace import observe
from millrace.lake.artifacts import write_text
from millrace.sources.files import list_files

_DAMAGED = (
    "1797,0 0 5",  # too few fields
    '1798,"0 0 5 13",7,surplus',  # too many
    "1799,0 0 5 13 9,7",  # an image that is too small
    "not-a-number," + " ".join(["0"] * 64) + ",3",
    "1801," + " ".join(["0"] * 64) + ",12",  # no digit
)


def write_digits(directory: str) -> None:
    """scikit-learn's 1,797 digits (8x8, grey 0 to 16) as three CSV files, with one damaged line each and two at the end."""
    from sklearn.datasets import load_digits

    if list_files(directory, (".csv",)):
        return
    digits = load_digits()
    images = digits.images.astype(int).reshape(len(digits.images), -1)  # images: (row, 64)
    num_files = 3
    observe.say(f"writing scikit-learn's digits to {directory}, a few lines damaged on purpose")
    for number in range(num_files):
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["index", "image", "digit"])
        for index in range(number, len(images), num_files):
            writer.writerow([index, " ".join(map(str, images[index])), digits.target[index]])
        damaged = _DAMAGED[number : number + 1] if number < num_files - 1 else _DAMAGED[number:]
        text.write("".join(f"{line}\n" for line in damaged))
        write_text(f"{directory}/digits-{number}.csv", text.getvalue())


SAMPLES = {"digits": write_digits}
