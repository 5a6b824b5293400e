"""The page's file: template, style, script and data in one text."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from PIL import Image

PICTURE_SIDE = 2000  # pixels at most: a real batch as PNG has tens of megabytes

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
        "title": html.escape(document["title"]),
        "policy": _policy(style, script),
        "style": style,
        "script": script,
        "data": script_json(document),
        "clips": script_json(clips),
    }
    # One pass, so that data which look like a placeholder stay data.
    return _PLACE.sub(lambda found: parts[found[1]], _asset("page.html"))


def script_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in, nor open a comment there."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def picture_uri(path: Path) -> str | None:
    """A picture as a data URI: JPEG, reduced to a side of :data:`PICTURE_SIDE` where larger.

    None where there is no such file.

    Raises:
        OSError: not a picture.
    """
    if not path.is_file():
        return None
    buffer = io.BytesIO()
    with Image.open(path) as image:
        small = image.convert("RGB")
    small.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    small.save(buffer, "JPEG", quality=85, subsampling=0)
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
