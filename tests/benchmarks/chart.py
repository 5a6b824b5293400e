"""A bar chart as a self-contained SVG, readable on light and on dark pages."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

_WIDTH, _LABELS, _BAR, _GAP, _TOP, _LINE = 760, 250, 18, 8, 58, 15
# Greys and blue between the two backgrounds: 4:1 against white and against near-black.
_TEXT, _OURS, _OTHERS = "#7a828c", "#2f81f7", "#9aa3ad"


def write_chart(path: Path, rows: Sequence[Mapping[str, Any]], machine: str, command: str) -> None:
    """Draw clips a second and core of the rows of ``decode``, libav alone left out."""
    drawn = [row for row in rows if not row["name"].startswith("bare")]
    most = max(row["clips_per_s"] for row in drawn)
    shapes = []
    for place, row in enumerate(drawn):
        y = _TOP + place * (_BAR + _GAP)
        rate, ratio = row["clips_per_s"], row["x_pytorchvideo"]
        width = (_WIDTH - _LABELS - 120) * rate / most
        mine = row["name"].startswith("ours")
        times = "" if ratio is None else f" ({ratio:.1f}x)"
        shapes += [
            _text(_LABELS - 8, y + 13, row["name"], 'text-anchor="end"'),
            f'<rect x="{_LABELS}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="2" '
            f'fill="{_OURS if mine else _OTHERS}"/>',
            _text(_LABELS + width + 6, y + 13, f"{rate:.1f}{times}"),
        ]
    y = _TOP + len(drawn) * (_BAR + _GAP) + 16
    for line in [*textwrap.wrap(machine, 112), *textwrap.wrap(command, 112)]:
        shapes.append(_text(12, y, line, 'font-size="11"'))
        y += _LINE
    about = "two random clips a video, to RGB frames; in brackets: times pytorchvideo"
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" width="{_WIDTH}" '
        f'height="{y}" font-family="system-ui, sans-serif" font-size="12.5" fill="{_TEXT}">\n'
        f"<title>Clips decoded a second and core</title>\n"
        + _text(12, 22, "Clips decoded a second and core", 'font-size="17" font-weight="600"')
        + "\n"
        + _text(12, 42, about)
        + "\n"
        + "\n".join(shapes)
        + "\n</svg>\n"
    )
    path.write_text(svg)


def _text(x: float, y: float, text: str, attributes: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y}" {attributes}>{escape(text)}</text>'
