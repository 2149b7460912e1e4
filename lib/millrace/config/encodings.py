"""Names of text encodings, as Python knows them."""

from __future__ import annotations

import codecs
from typing import Annotated

from pydantic import AfterValidator

_NO_TEXT = ("utf_7", "idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "mbcs", "oem")
"""What Python calls text encodings, and no file is in."""


def is_text_encoding(name: str) -> bool:
    """Whether files may be in it."""
    try:
        if codecs.lookup(name).name.replace("-", "_") in _NO_TEXT:
            return False
        codecs.getincrementaldecoder(name)
        b"0000".decode(name, "replace")  # refuses codecs that are no text encodings, such as base64
    except LookupError:
        return False
    return True


def _known(name: str) -> str:
    if not is_text_encoding(name):
        raise ValueError(f"'{name}' is no text encoding that Python knows, such as utf-8, gb18030, latin-1")
    return name


EncodingName = Annotated[str, AfterValidator(_known)]
