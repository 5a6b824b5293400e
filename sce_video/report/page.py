"""The page's file: template, style, script and data in one text."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import math
import re
import warnings
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from PIL import Image

from sce_video.errors import first_line
from sce_video.text import printable
from sce_video.video.limits import DEFAULT_LIMITS

PICTURE_SIDE = 2000  # pixels at most: a real batch as PNG has tens of megabytes
PICTURE_BYTES = 1 << 26  # of its file

_SCRIPTS = ("dom.js", "charts.js", "tables.js", "gallery.js", "page.js")
_PLACE = re.compile(r"\{\{(\w+)\}\}")


def render(document: Mapping[str, Any], clips: Mapping[str, str]) -> str:
    """The page as HTML.

    Args:
        document: what it shows; JSON values with a ``title``.
        clips: video -> mp4 in base64.
    """
    style = _asset("page.css")
    script = '"use strict";\n' + "\n".join(_asset(name) for name in _SCRIPTS)
    parts = {
        "title": html.escape(printable(document["title"])),
        "policy": _policy(style, script),
        "style": style,
        "script": script,
        "data": script_json(_shown(document)),
        "clips": script_json(clips),
    }
    # One pass, so that data which look like a placeholder stay data.
    return _PLACE.sub(lambda found: parts[found[1]], _asset("page.html"))


def script_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in, nor open a comment there."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _shown(value: Any) -> Any:
    """JSON values as they are shown: no control and no turned text; None for what is not finite."""
    if isinstance(value, str):
        return value if value.isprintable() else "\n".join(map(printable, value.split("\n")))
    if isinstance(value, Mapping):
        return {name: _shown(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def picture_uri(data: bytes) -> str:
    """A PNG as a data URI: JPEG, reduced to a side of :data:`PICTURE_SIDE` where larger.

    Raises:
        ValueError: not a PNG, damaged, or of too many pixels.
    """
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the size is judged by our own limit
            image = Image.open(io.BytesIO(data), formats=["PNG"])
        if image.width * image.height > DEFAULT_LIMITS.pixels:
            raise ValueError(f"{image.width:,} x {image.height:,} pixels")
        small = image.convert("RGB")
        small.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
        small.save(buffer, "JPEG", quality=85, subsampling=0)
    except Exception as error:  # of odd bytes Pillow makes any
        raise ValueError(f"no PNG picture: {first_line(error)}") from error
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _policy(style: str, script: str) -> str:
    """Content security policy: our own script and style, embedded media, no network at all."""
    return (
        "default-src 'none'; img-src data:; media-src blob:; base-uri 'none'; form-action 'none'; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _asset(name: str) -> str:
    return files(__package__).joinpath("assets", name).read_text(encoding="utf-8").strip()
