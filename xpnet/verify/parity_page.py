"""A comparison of devices as one self-contained HTML page: no script, no other files, no network."""

from __future__ import annotations

import io
import math
from html import escape
from itertools import groupby

from xpnet.verify.parity_result import REFERENCE, Comparison, Parity

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
.verdict { padding: .7rem 1rem; border-left: 5px solid #0072B2; background: #EEF5FA; overflow-wrap: anywhere }
.verdict.bad { border-color: #D55E00; background: #FDF0E8 }
.faint { color: #666; overflow-wrap: anywhere } .note { max-width: 56rem }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .15rem .6rem .15rem 0 }
thead th { border-bottom: 1px solid #999; font-weight: 600; vertical-align: bottom }
tr.part th { padding-top: .7rem; font-weight: 600 } tr.row > * { border-top: 1px solid #EEE }
tr.row th { font-weight: 400 }
td.number { font-variant-numeric: tabular-nums; text-align: right; white-space: nowrap } td.bad { color: #B34700 }
svg { max-width: 100%; height: auto; vertical-align: middle } .scroll { overflow-x: auto }
"""
LOWEST, HIGHEST = -4, 2  # the ends of the small scales of error / allowed, as powers of ten
WIDTH, HEIGHT = 150, 14  # of one scale, in pixels


def page(parity: Parity) -> str:
    """The whole page as HTML."""
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in parity.notes)
    verdict = f'<p class="verdict{"" if parity.ok else " bad"}">{escape(_sentence(parity.verdict))}.</p>'
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>xpnet parity: {'agreement' if parity.ok else 'a difference'}</title>\n<style>{STYLE}</style>\n"
        f'<main>\n<h1>Do the devices agree?</h1>\n<p class="faint">{escape(parity.title)}</p>\n{verdict}\n{notes}\n'
        f"{_devices(parity)}\n{_training(parity)}\n{_rows(parity)}\n</main>\n</html>\n"
    )


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _devices(parity: Parity) -> str:
    role = {"cpu": "", "gpu": "", "stand-in": "in the place of a GPU: "}
    listed = [(REFERENCE, "the reference")] + [(d.name, role[d.role] + d.detail) for d in parity.devices]
    rows = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(detail)}</td></tr>' for name, detail in listed)
    return f"<h2>Devices</h2>\n<table>{rows}</table>"


# Training ---------------------------------------------------------------------------------------------------------


def _training(parity: Parity) -> str:
    training = parity.training
    gaps = ", ".join(f"{escape(device)}: {gap:.1e}" for device, gap in training.gaps.items())
    problems = "".join(f'<p class="verdict bad">{escape(d)}: {escape(p)}</p>' for d, p in training.problems.items())
    return (
        f"<h2>Training</h2>\n<p>{escape(training.what)}, from the same values and the same random numbers. Largest "
        f"gap to {REFERENCE}, as a fraction of its largest loss: {gaps} (allowed: {training.allowed:.0e}).</p>\n"
        f"{problems}\n{_curves(parity)}"
    )


def _curves(parity: Parity) -> str:
    """The loss curves, and their distances from the reference, as an SVG."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    training = parity.training
    looks = dict(
        zip(training.curves, (("#222222", "-", 5.0), ("#0072B2", "-", 2.2), ("#E69F00", "--", 1.6)), strict=False)
    )
    out = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "xpnet", "font.size": 10}):
        figure = Figure(figsize=(10, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for device, curve in training.curves.items():
            colour, dashes, width = looks[device]
            faint = 0.25 if device == REFERENCE else 1
            left.plot(range(1, len(curve) + 1), curve, dashes, color=colour, lw=width, alpha=faint, label=device)
            if device != REFERENCE:
                right.plot(range(1, len(curve) + 1), training.distances(device), dashes, color=colour, lw=width)
        limit = right.axhline(training.allowed, color="#D55E00", lw=1, label="allowed gap")
        right.set_yscale("log", nonpositive="mask")
        for axes, title in ((left, "Loss"), (right, f"Gap to {REFERENCE}")):
            axes.set_title(title, loc="left")
            axes.set_xlabel("step")
            axes.grid(color="#E3E3E3")
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=4, frameon=False)
        figure.legend(handles=[limit], loc="outside lower right", frameon=False)
        figure.savefig(out, format="svg", metadata={"Date": None})
    drawing = out.getvalue()
    shown = "The loss at each step on each device, and how far each is from the reference"
    return drawing[drawing.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{shown}"', 1)


# The rows ---------------------------------------------------------------------------------------------------------


def _rows(parity: Parity) -> str:
    devices = [device.name for device in parity.devices]
    span = "".join(f'<th colspan="4" scope="colgroup">{escape(device)}</th>' for device in devices)
    each = (
        '<th colspan="2" scope="colgroup">error / allowed</th>'
        '<th scope="col" title="units in the last place">ulps</th><th scope="col">verdict</th>'
    )
    body = []
    for part, lines in groupby(parity.lines(), key=lambda line: next(iter(line.values())).part):
        body.append(f'<tr class="part"><th scope="rowgroup" colspan="{1 + 4 * len(devices)}">{escape(part)}</th></tr>')
        for line in lines:
            what = escape(next(iter(line.values())).what)
            body.append(
                f'<tr class="row"><th scope="row">{what}</th>{"".join(_cells(line[device]) for device in devices)}</tr>'
            )
    return (
        f"<h2>Tensors</h2>\n<p>Each against {REFERENCE}. The scales run from 10<sup>{LOWEST}</sup> to "
        f"10<sup>{HIGHEST}</sup>; the upright line is what rounding may do. Ulps are units in the last place of "
        "float32, at the size of the tensor's largest number.</p>\n"
        f'<div class="scroll" tabindex="0" role="region" aria-label="Tensors"><table><thead>'
        f'<tr><th rowspan="2" scope="col">tensor</th>{span}</tr><tr>{each * len(devices)}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _cells(row: Comparison) -> str:
    if row.problem:
        return f'<td class="bad" colspan="3">{escape(row.problem)}</td><td class="bad">{row.verdict}</td>'
    error = "0" if not row.fraction else f"{row.fraction:.3g}"  # as a fraction of what is allowed
    bad = "" if row.ok else ' class="bad"'
    where = escape(f"{row.error:.2e} of {row.allowed:.2e} at {row.where}" if row.where else "no difference", quote=True)
    return (
        f'<td title="{where}">{_scale(row)}</td><td class="number">{error}</td>'
        f'<td class="number">{row.ulps:.3g}</td><td{bad}>{row.verdict}</td>'
    )


def _scale(row: Comparison) -> str:
    """A dot on a logarithmic scale, with a line at what is allowed."""

    def place(power: float) -> float:
        return 4 + (WIDTH - 8) * (min(max(power, LOWEST), HIGHEST) - LOWEST) / (HIGHEST - LOWEST)

    middle, limit = HEIGHT / 2, place(0)
    dot = ""
    if row.fraction:
        at = place(math.log10(row.fraction)) if math.isfinite(row.fraction) else place(HIGHEST)
        dot = f'<circle cx="{at:.1f}" cy="{middle}" r="3.5" fill="{"#0072B2" if row.ok else "#D55E00"}"/>'
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">'
        f'<path d="M4 {middle}H{WIDTH - 4}" stroke="#CCC"/>'
        f'<path d="M{limit:.1f} 1V{HEIGHT - 1}" stroke="#888"/>{dot}</svg>'
    )
