"""What a check found: its largest error and the allowed error, and a readable report of many such findings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnet.verify.tolerances import Arrays

Found = tuple[float, float, str]  # the largest error, what was allowed there, and where it is


class Measured:
    """A measured error and what was allowed, or the problem that kept it from being measured."""

    error: float
    allowed: float
    problem: str

    @property
    def ok(self) -> bool:
        return not self.problem and self.error <= self.allowed < math.inf  # an infinite tolerance proves nothing

    @property
    def fraction(self) -> float:
        """The error as a fraction of what is allowed; infinite if nothing could be compared."""
        if self.problem or not (math.isfinite(self.error) and math.isfinite(self.allowed)):
            return math.inf
        if not self.allowed:
            return math.inf if self.error else 0.0
        return self.error / self.allowed


@dataclass(frozen=True)
class Finding(Measured):
    """What one check found in one setting ("training, cpu, float32").

    It holds the largest error, what was allowed there, and where it is; or the problem that prevented the comparison.
    """

    name: str
    setting: str
    error: float = 0.0
    allowed: float = 0.0
    where: str = ""
    problem: str = ""

    @property
    def found(self) -> str:
        """The finding as text."""
        if self.problem:
            return self.problem
        if self.error == self.allowed == 0:
            return "the same bits"
        place = f" in {self.where}" if self.where else ""
        return f"largest error {self.error:.1e}{place}, allowed {self.allowed:.1e}"

    def __str__(self) -> str:
        return f"{'ok    ' if self.ok else 'FAILED'}  {self.name} ({self.setting}): {self.found}"


@dataclass(frozen=True)
class Report:
    """All findings on one layer or loss. `print(report)` shows a line for each check, those that failed last."""

    title: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return not self.failed

    @property
    def failed(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if not f.ok)

    @property
    def verdict(self) -> str:
        return f"{len(self.findings) - len(self.failed)} checks ok, {len(self.failed)} failed"

    def __str__(self) -> str:
        return "\n".join([self.title, *self.lines(ok=True), *self.lines(ok=False), self.verdict])

    def lines(self, ok: bool) -> list[str]:
        """One line with the worst finding of each check that passed in all settings (`ok`), or of each that did not."""
        lines = []
        for name in dict.fromkeys(f.name for f in self.findings):
            of_name = [f for f in self.findings if f.name == name]
            bad = [f for f in of_name if not f.ok]
            if bool(bad) == ok:
                continue
            worst, n = max(bad or of_name, key=lambda f: f.fraction), len(of_name)
            settings = f"{len(bad)} of {n} settings, such as {worst.setting}" if bad else f"{n} settings"
            lines.append(f"  {'FAILED' if bad else 'ok    '}  {name} ({settings}): {worst.found}")
        return lines


class CheckFailed(AssertionError):
    """At least one check failed; the message lists those that did, `report` holds all findings."""

    def __init__(self, report: Report):
        super().__init__("\n".join([f"{report.title}: {report.verdict}", *report.lines(ok=False)]))
        self.report = report


class Mismatch(ValueError):
    """Results that cannot be compared at all."""


def finding(name: str, setting: str, measure: Callable[..., Found], *arguments: Any) -> Finding:
    """The finding of `measure(*arguments) -> (error, allowed, where)`; an exception in it becomes a finding too."""
    try:
        error, allowed, where = measure(*arguments)
    except Exception as raised:  # whatever a layer under test raises belongs in the report, with the other findings
        return Finding(name, setting, problem=f"{type(raised).__name__}: {raised}")
    return Finding(name, setting, error, allowed, where)


def compare(got: Arrays, want: Arrays, allowed: Callable[[], Arrays] | None = None) -> Found:
    """(error, allowed, where) of the number with the largest error relative to what is allowed.

    `allowed()` gives the tolerances by name; a name "label, y" has the tolerance of "y". Without `allowed` the results
    must be equal. Raises `Mismatch` if names or shapes differ.
    """
    if got.keys() != want.keys():
        raise Mismatch(f"results {sorted(got)}, expected {sorted(want)}")
    for name in want:
        if got[name].shape != want[name].shape:
            raise Mismatch(f"{name} has shape {got[name].shape}, expected {want[name].shape}")
    if all(np.array_equal(got[name], want[name]) for name in want):
        return 0.0, 0.0, ""
    limits = allowed() if allowed else {}
    worst = max((_worst(name, got[name], want[name], limits) for name in want), key=lambda found: found[0])
    return worst[1:]


def _worst(name: str, got: np.ndarray, want: np.ndarray, limits: Arrays) -> tuple[float, float, float, str]:
    """(error / allowed, error, allowed, where) of the worst number."""
    if not got.size:
        return 0.0, 0.0, 0.0, name
    error = np.abs(got.astype(np.float64) - want.astype(np.float64))
    error = np.where(np.isnan(error), np.inf, error)
    limit = np.broadcast_to(limits.get(name.split(", ")[-1], np.zeros(())), error.shape)
    ratio = np.divide(error, limit, out=np.where(error > 0, np.inf, 0.0), where=limit > 0)
    at = np.unravel_index(ratio.argmax(), ratio.shape)
    place = f"{name}[{', '.join(str(int(i)) for i in at)}]" if at else name
    return float(ratio[at]), float(error[at]), float(limit[at]), place
