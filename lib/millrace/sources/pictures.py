"""One stored picture -> one tensor of grey or RGB bytes, by Pillow.

What is done to kinds that are no plain 8-bit grey or RGB: a palette, CMYK and YCCK are converted to RGB without their colour
profile; what is transparent is laid over white; of 16 bits the upper 8 are taken; a camera's EXIF orientation is applied; of a
JPEG with several pictures (MPO) the first, which is the main one, is taken. An animated PNG is refused: which of its pictures
is meant cannot be known. libjpeg mends flipped bits within a JPEG's data by itself, so that such damage is not seen.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from millrace.sources.members import ContentError

RULES = ("not_an_image", "image_too_large", "corrupt_image", "animated_image", "unsupported_image")
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # Exif 2.3, 4.6.4 A


def decode(content: bytes, *, shape: tuple[int, int, int], resize: str, max_pixels: int) -> NDArray[np.uint8]:
    """The picture as (height, width, channel) uint8 with 1 (grey) or 3 (RGB) channels. Raises ContentError.

    `resize` says what is done where the ratio of sides differs: squash, crop (the middle is kept) or pad (black bars). Bilinear,
    over all pixels that an output pixel covers.
    """
    height, width, channels = shape
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of a large picture, whose size is looked at here; of odd metadata, which is not used
            with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as stored:
                _check_header(stored, max_pixels)
                stored.load()
                picture = _upright(_plain(stored))
    except ContentError:
        raise
    except Image.DecompressionBombError:
        raise ContentError("image_too_large", f"more pixels than {max_pixels:,}") from None
    except UnidentifiedImageError:
        if content.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")):
            raise ContentError("corrupt_image", "its header cannot be read") from None
        raise ContentError("not_an_image", "neither JPEG nor PNG, by its first bytes") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plugins raise whatever their parsing meets: OSError, SyntaxError, struct.error, …
        raise ContentError("corrupt_image", f"it cannot be decoded ({str(error) or type(error).__name__})") from None
    picture = picture.convert("L" if channels == 1 else "RGB")
    return np.asarray(_fit(picture, width, height, resize)).reshape(shape)


def _check_header(stored: Image.Image, max_pixels: int) -> None:
    if stored.width * stored.height > max_pixels:
        raise ContentError("image_too_large", f"{stored.width} x {stored.height} pixels, where at most {max_pixels:,} are read")
    if stored.width * stored.height == 0:
        raise ContentError("corrupt_image", f"{stored.width} x {stored.height} pixels")
    if stored.format == "PNG" and getattr(stored, "is_animated", False):
        raise ContentError("animated_image", f"{getattr(stored, 'n_frames', 2)} pictures in one")


def _plain(stored: Image.Image) -> Image.Image:
    """As L or RGB, with the orientation that the file's EXIF names kept in `info`."""
    orientation = _orientation(stored)
    if stored.mode.startswith("I;16"):
        grey = (np.asarray(stored).astype(np.uint16) >> 8).astype(np.uint8)
        plain = Image.fromarray(grey)
    elif stored.mode in ("RGBA", "LA", "PA") or "transparency" in stored.info:
        above = stored.convert("RGBA")
        plain = Image.alpha_composite(Image.new("RGBA", above.size, "white"), above).convert("RGB")
    elif stored.mode in ("1", "L", "P", "RGB", "CMYK", "YCbCr"):
        plain = stored.convert("L" if stored.mode in ("1", "L") else "RGB")
    else:
        raise ContentError("unsupported_image", f"pixels of the kind {stored.mode}")
    plain.info["orientation"] = orientation
    return plain


def _orientation(stored: Image.Image) -> int:
    try:
        value = stored.getexif().get(_ORIENTATION, 1)
    except Exception:  # EXIF that cannot be read says nothing about the picture
        return 1
    return value if isinstance(value, int) else 1


def _upright(picture: Image.Image) -> Image.Image:
    turn = _TURNS.get(picture.info["orientation"])
    return picture if turn is None else picture.transpose(turn)


def _fit(picture: Image.Image, width: int, height: int, resize: str) -> Image.Image:
    bilinear = Image.Resampling.BILINEAR
    if resize == "crop":
        scale = min(picture.width / width, picture.height / height)
        left, top = (picture.width - width * scale) / 2, (picture.height - height * scale) / 2
        box = (max(left, 0.0), max(top, 0.0), min(left + width * scale, picture.width), min(top + height * scale, picture.height))
        return picture.resize((width, height), bilinear, box=box)
    if resize == "pad":
        scale = min(width / picture.width, height / picture.height)
        inner = (
            min(width, max(1, round(picture.width * scale))),
            min(height, max(1, round(picture.height * scale))),
        )
        canvas = Image.new(picture.mode, (width, height))
        canvas.paste(picture.resize(inner, bilinear), ((width - inner[0]) // 2, (height - inner[1]) // 2))
        return canvas
    return picture.resize((width, height), bilinear)
