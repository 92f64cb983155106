"""Small pieces of HTML that notebooks show instead of plain text: objects return them from `_repr_html_()`.

They set no text or background colours, so that they can be read on light and on dark pages. Everything that comes from
the user is escaped.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LINE = "1px solid #8888"  # half transparent
SMALLEST, LARGEST = 56, 112  # pixels of the screen: the longer side of an image
CAPTION = f"text-align: center; line-height: 1.4; max-width: {LARGEST}px; overflow-wrap: anywhere"


def line(text: str) -> str:
    return f'<div style="margin: 4px 0">{escape(text)}</div>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], foot: Sequence[str] = (), left: int = 0) -> str:
    """Rows of strings under a heading row; the first `left` columns are aligned to the left, others to the right."""

    def row(cells: Sequence[str], tag: str, border: str = "") -> str:
        made = []
        for i, cell in enumerate(cells):
            side = "left" if i < left else "right; white-space: nowrap"
            style = f"text-align: {side}; padding: 2px 10px{border}"
            made.append(f'<{tag} style="{style}">{escape(cell)}</{tag}>')
        return f"<tr>{''.join(made)}</tr>"

    parts = [f"<thead>{row(head, 'th', f'; border-bottom: {LINE}')}</thead>"] if head else []
    parts.append(f"<tbody>{''.join(row(cells, 'td') for cells in rows)}</tbody>")
    if foot:
        parts.append(f"<tfoot>{row(foot, 'td', f'; border-top: {LINE}')}</tfoot>")
    return f'<table style="border-collapse: collapse; font-variant-numeric: tabular-nums">{"".join(parts)}</table>'


def images(colours: np.ndarray, labels: Sequence[str]) -> str:
    """Images (N, H, W, 3) in [0, 1] side by side, each above its label."""
    height, width = colours.shape[1:3]
    factor = min(max(SMALLEST / max(height, width), 1), LARGEST / max(height, width))
    size = f"width: {max(round(width * factor), 1)}px; height: {max(round(height * factor), 1)}px"
    made = []
    for image, label in zip(colours, labels, strict=True):
        shown = f'<img src="{_png(image)}" alt="{escape(label)}" style="{size}; image-rendering: pixelated">'
        made.append(f'<div style="{CAPTION}">{shown}<br>{escape(label)}</div>')
    return f'<div style="display: flex; flex-wrap: wrap; gap: 8px">{"".join(made)}</div>'


def _png(image: np.ndarray) -> str:
    """An image (H, W, 3) in [0, 1] as the data URL of a PNG file, made smaller if the screen shows it smaller."""
    from PIL import Image

    made = Image.fromarray((image * 255).round().astype("uint8"))
    made.thumbnail((2 * LARGEST, 2 * LARGEST))  # smaller images stay as they are
    file = io.BytesIO()
    made.save(file, format="png")
    return png_address(file.getvalue())


def png_address(content: bytes) -> str:
    """The content of a PNG file as a data URL, which needs no file."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
