"""The results of `benchmarks/bench.py` as JSON, as a Markdown table and as a plot."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

from benchmarks.installed import table

COLUMNS = "| contender | a step | half of the rounds | processor time | ratio |\n|---|---|---|---|---|\n"


def write(results: dict[str, Any], settings: dict[str, Any], folder: Path, name: str) -> str:
    """Write the three files to `folder`, and return the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {"machine": machine(), **settings, "works": results}
    (folder / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    text = markdown(found)
    (folder / f"{name}.md").write_text(text, "utf-8")
    plot(results, folder / f"{name}.png")
    return text


def markdown(found: dict[str, Any]) -> str:
    contenders = [c for work in found["works"].values() for c in work["contenders"].values()]
    versions = ", ".join(dict.fromkeys(f"{name} {v}" for c in contenders for name, v in c["versions"].items()))
    malloc = " ".join(f"{name}={value}" for name, value in found["malloc"].items()) or "as installed"
    parts = [
        "# xpnet beside others\n\n"
        f"{found['date']}. {found['machine']}; load at the end {found['load']:.1f}. {versions}. "
        f"Allocator: {malloc}.\n\n"
        "    python -m benchmarks.bench\n\n"
        f"Medians of {found['rounds']} rounds in turn. Every contender is a process of its own, with one thread unless "
        "it says two (JAX has threads of its own); two workers are two processes. The ratio is to the fastest eager "
        "PyTorch of the work, of imports to NumPy's: below 1 is faster.\n"
    ]
    for work in found["works"].values():
        rival = best_rival(work["contenders"])
        parts.append(f"\n## {work['title']}\n\n{COLUMNS}")
        for name, c in work["contenders"].items():
            ratio = f"{c['median'] / rival:.2f}" if rival else "-"
            spread = f"{time_of(c['low'])} to {time_of(c['high'])}"
            parts.append(
                f"| {shown(name)} | {time_of(c['median'])} | {spread} | {time_of(c['processor'])} | {ratio} |\n"
            )
    parts.append(f"\n## Installed size\n\n{table()}")
    return "".join(parts)


def best_rival(contenders: dict[str, Any]) -> float | None:
    """NumPy's median if it is a contender, else that of the fastest eager PyTorch with the usual allocator."""
    if "numpy" in contenders:
        return contenders["numpy"]["median"]
    eager = [name for name in contenders if name.startswith("pytorch") and not ("compiled" in name or "tuned" in name)]
    return min((contenders[name]["median"] for name in eager), default=None)


def shown(name: str) -> str:
    names = {"ours": "**xpnet**", "numpy": "NumPy", "pytorch": "PyTorch", "jaxed": "JAX, jit", "scikit": "scikit-learn"}
    first, *rest = name.split(", ")
    return ", ".join([names[first], *rest])


def time_of(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} µs" if seconds < 2e-3 else f"{seconds * 1e3:.1f} ms"


def machine() -> str:
    gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({platform.machine()}), {gb:.0f} GB, {platform.system()}"


def plot(results: dict[str, Any], path: Path) -> None:
    """Ratios to the fastest eager PyTorch, on a logarithmic axis, with the spread of the rounds."""
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(9, 1.0 + sum(0.28 * len(w["contenders"]) + 0.5 for w in results.values())), layout="constrained"
    )
    axes = figure.subplots()
    place, ticks = 0.0, []
    for work in results.values():
        rival = best_rival(work["contenders"]) or next(iter(work["contenders"].values()))["median"]
        axes.text(0.0, -place, work["title"], transform=axes.get_yaxis_transform(), weight="bold", size=9, va="center")
        for name, c in work["contenders"].items():
            place += 1
            ticks.append((place, shown(name).replace("*", "")))
            low, middle, high = (c[key] / rival for key in ("low", "median", "high"))
            color = "tab:blue" if name.startswith("ours") else "0.6"
            axes.barh(-place, middle, color=color, height=0.7, xerr=[[max(middle - low, 0)], [max(high - middle, 0)]])
        place += 1.8
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
    axes.minorticks_off()
    axes.margins(y=0.01)
    axes.set_yticks([-at for at, _ in ticks], [label for _, label in ticks], size=8)
    axes.set_xlabel("time, as a ratio to the fastest eager PyTorch (below 1 is faster)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
