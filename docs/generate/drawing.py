"""A drawing of what goes through a layer: input, parameters and output as grids of numbers, as inline SVG.

Rows go down and the last axis goes to the right. An image (H, W, C) is a stack of C grids. Drawn is one sample; long
axes are cut, and the text below has the whole shape.
"""

from __future__ import annotations

from html import escape

CELL, MOST, BEHIND, GAP = 13, 10, 5, 46  # pixels of a cell, cells along an axis, pixels from sheet to sheet, between


def drawing(inputs: dict[str, tuple], name: str, parameters: dict[str, tuple], outputs: dict[str, tuple]) -> str:
    """`inputs` and `outputs` are whole shapes (N, ...) by name, `parameters` shapes without a batch axis."""
    columns = [
        [_array(label, shape, shape[1:], "data") for label, shape in inputs.items()],
        [_array(label, shape, shape, "parameter") for label, shape in parameters.items()],
        [_array(label, shape, shape[1:], "data") for label, shape in outputs.items()],
    ]
    heads = ["", name, ""]
    x, height, parts = 8, 0, []
    for number, (head, column) in enumerate(zip(heads, columns, strict=True)):
        width = max([w for w, _, _ in column] + [9 * len(head)], default=0)
        if number:
            parts.append(f'<text class="arrow" x="{x - GAP / 2 - 8}" y="64">→</text>')
        parts.append(f'<text class="head" x="{x}" y="18">{escape(head)}</text>')
        y = 30
        for _, h, svg in column:
            parts.append(f'<g transform="translate({x},{y})">{svg}</g>')
            y += h + 16
        height, x = max(height, y), x + width + GAP
    words = " and ".join(f"{label} {shape}" for label, shape in inputs.items())
    out = " and ".join(f"{label} {shape}" for label, shape in outputs.items())
    size = f'viewBox="0 0 {x - GAP + 8} {height}" width="{x - GAP + 8}" height="{height}"'
    alt = escape(f"{words} through {name} gives {out}")
    return f'<svg class="shapes" role="img" aria-label="{alt}" {size}>{"".join(parts)}</svg>'


def _array(label: str, shape: tuple, drawn: tuple, kind: str) -> tuple[int, int, str]:
    """Width, height and SVG of an array and its label."""
    rows, columns, sheets = _grid(drawn)
    back = BEHIND * (sheets - 1)
    parts = []
    for sheet in reversed(range(sheets)):
        x, y = sheet * BEHIND, back - sheet * BEHIND
        parts.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{columns * CELL}" height="{rows * CELL}"/>')
    lines = [f"M{i * CELL},{back}v{rows * CELL}" for i in range(1, columns)]
    lines += [f"M0,{back + i * CELL}h{columns * CELL}" for i in range(1, rows)]
    height = rows * CELL + back + 16
    text = f"{label} {shape}"
    parts.append(f'<path d="{"".join(lines)}"/><text y="{height}">{escape(text)}</text>')
    return max(columns * CELL + back, 8 * len(text)), height, "".join(parts)


def _grid(shape: tuple) -> tuple[int, int, int]:
    """Rows, columns and sheets: none of them long. Axes before the last three are not drawn."""
    cut = [max(1, min(n, MOST)) for n in shape[-3:]]
    match cut:
        case []:
            return 1, 1, 1
        case [n]:
            return 1, n, 1
        case [rows, columns]:
            return rows, columns, 1
        case [rows, columns, sheets]:
            return rows, columns, sheets
    raise AssertionError(shape)
