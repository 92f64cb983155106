"""`xpnet doctor`: what this machine has, what does not work, and the line that fixes it."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from xpnet.cli.console import print_json, printable
from xpnet.doctor.report import machine_report

STYLES = {"ok": "bold green", "not ok": "bold red", "note": "bold yellow", "": ""}


def doctor(as_json: bool = False) -> int:
    """Look at this machine and print the findings: a page to read, or exactly one JSON object.

    Returns the exit status. 0: xpnet works here. 1: a device computes wrong products, downloads cannot be kept, or
    XPNET_DEVICE names a device that does not work. A GPU that is missing or does not work is a note, not a failure:
    a laptop is fine.
    """
    report = machine_report()
    if as_json:
        print_json(report, indent=2)
    else:
        show(report)
    return 0 if report["ok"] else 1


def show(report: dict[str, Any]) -> None:
    """Print what `machine_report` returned as a page. Every command that helps is on a line of its own."""
    console = Console(highlight=False)
    software = report["software"]
    _heading(console, f"xpnet {software['xpnet']}")
    _line(console, "", f"Python {software['python']}, NumPy {software['numpy']}, {software['platform']}")
    _show_cpu(console, report["cpu"])
    _show_gpu(console, report["gpu"])
    _show_products(console, report["products"])
    _show_folders(console, report["folders"])
    if report["environment"]:
        _heading(console, "Environment variables")
    for name, value in report["environment"].items():
        _line(console, "", f"{name}={value}")
    _show_verdict(console, report)


def _show_cpu(console: Console, cpu: dict[str, Any]) -> None:
    _heading(console, "CPU")
    _line(console, "", f"{cpu['name']}, {cpu['usable']} of {cpu['count']} processors usable")
    _line(console, "", f"memory: {_gib(cpu['memory_total'])}, {_gib(cpu['memory_available'])} of it available")
    blas = cpu["blas"]
    _line(console, "", f"BLAS: {blas['name']} {blas['version']}, threads: {blas['threads'] or 'unknown'}")


def _show_gpu(console: Console, gpu: dict[str, Any]) -> None:
    _heading(console, "GPU")
    cupy = ", ".join(f"{name} {version}" for name, version in gpu["cupy"].items()) or "not installed"
    driver = f"for CUDA {gpu['driver_cuda']}" if gpu["driver_cuda"] else "none answers"
    _line(console, "", f"CuPy: {cupy}; NVIDIA driver: {driver}")
    for device in gpu["devices"]:
        capability, size = device["compute_capability"], _gib(device["memory_total"])
        name = f"{device['device']}: {device['name']}, compute capability {capability}, {size}"
        _line(console, "ok" if device["ok"] else "not ok", name)
        if not device["ok"]:
            _obstacle(console, device["detail"], device["fix"])
    if not gpu["devices"]:
        _line(console, "note", "no GPU is used")
        _obstacle(console, gpu["detail"], gpu["fix"])


def _show_products(console: Console, products: list[dict[str, Any]]) -> None:
    _heading(console, "Product of 256 x 256 float32 matrices, against float64")
    for row in products:
        if row["error"] is None:
            _line(console, "not ok", f"{row['device']}: {row['why_not']}")
            continue
        numbers = f"largest error {row['error']:.1e} (limit {row['limit']:.0e}), {row['seconds'] * 1e6:.0f} us"
        _line(console, "ok" if row["ok"] else "not ok", f"{row['device']}: {numbers}")


def _show_folders(console: Console, folders: dict[str, Any]) -> None:
    _heading(console, "Folders")
    for purpose, title in (("data", "downloads"), ("kernels", "CuPy's compiled kernels")):
        place = folders[purpose]
        state = f"{_gib(place['free'])} free" if place["writable"] else place["why_not"]
        bad = "not ok" if purpose == "data" else "note"
        _line(console, "ok" if place["writable"] else bad, f"{title}: {place['path']}: {state}")


def _show_verdict(console: Console, report: dict[str, Any]) -> None:
    _heading(console, "Verdict")
    for problem in report["problems"]:
        _line(console, "not ok", problem["what"])
        _fix(console, problem["fix"])
    if report["choice"]["device"]:
        _line(console, "ok" if report["ok"] else "note", f"programs run on {report['choice']['device']} by default")


def _obstacle(console: Console, detail: str, fix: str) -> None:
    _line(console, "", detail)
    _fix(console, fix)


def _fix(console: Console, fix: str) -> None:
    _line(console, "", "fix:")
    for step in fix.splitlines():
        _line(console, "", f"    {step}")


def _heading(console: Console, text: str) -> None:
    console.print(Text(f"\n{text}", style="bold"))


def _line(console: Console, mark: str, text: str) -> None:
    """Print one line, never wrapped (so that commands can be copied), with its mark as a word in front."""
    text = printable(text, console.encoding)
    console.print(Text.assemble((f"  {mark:<8}", STYLES[mark]), text), soft_wrap=True)


def _gib(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 2**30:.1f} GiB"
