"""The result of a comparison of devices: rows, loss curves, and the verdict."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from xpnet.verify.report import Measured
from xpnet.verify.tolerances import LOSS_CURVE

REFERENCE = "cpu, float64"


@dataclass(frozen=True)
class Device:
    """A device that was compared with the reference. `role` is "cpu", "gpu", or "stand-in" (for a GPU)."""

    name: str
    role: str
    detail: str


@dataclass(frozen=True)
class Comparison(Measured):
    """One tensor on one device: how far it is from the float64 reference.

    `error`, `allowed` and `where` are those of the number whose error is largest relative to its tolerance. `ulps` is
    the largest error of the tensor in units in the last place of float32, at the size of the tensor's largest number.
    At their own size, numbers in which large terms cancel would have no correct digit on any device.
    """

    part: str
    what: str
    device: str
    ulps: float = 0.0
    error: float = 0.0
    allowed: float = 0.0
    where: str = ""
    problem: str = ""

    @property
    def verdict(self) -> str:
        """ "same bits", "rounding" or "differs"."""
        if not self.ok:
            return "differs"
        return "rounding" if self.ulps else "same bits"

    def __str__(self) -> str:
        found = self.problem or f"off by {self.error:.1e} at {self.where}, {self.allowed:.1e} is rounding"
        return f"{self.part}, {self.what}, on {self.device}: {found}"


@dataclass(frozen=True)
class Training:
    """The same training steps on each device, from the same values: the loss before each step, by device name."""

    what: str
    curves: dict[str, tuple[float, ...]]
    problems: dict[str, str]
    allowed: float = LOSS_CURVE
    smallest: float = 0.0  # gaps are fractions of the largest loss, or of this if that is smaller

    def distances(self, device: str) -> list[float]:
        """The gap between the device's curve and the reference's at each step, as a fraction of the largest loss."""
        reference = self.curves[REFERENCE]
        size = max(self.smallest, *map(abs, reference)) or 1.0
        gaps = [abs(a - b) / size for a, b in zip(self.curves[device], reference, strict=True)]
        return [math.inf if math.isnan(gap) else gap for gap in gaps]

    @property
    def gaps(self) -> dict[str, float]:
        """The largest of these gaps, by device."""
        return {device: max(self.distances(device)) for device in self.curves if device != REFERENCE}

    @property
    def ok(self) -> bool:
        return not self.problems and all(gap <= self.allowed for gap in self.gaps.values())


@dataclass(frozen=True)
class Parity:
    """Everything that was compared. `gpu` says whether a GPU was; `notes` say what could not be compared, and why."""

    title: str
    devices: tuple[Device, ...]
    rows: tuple[Comparison, ...]
    training: Training
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not any(not row.ok for row in self.rows) and self.training.ok

    @property
    def gpu(self) -> bool:
        return any(device.role == "gpu" for device in self.devices)

    @property
    def first(self) -> Comparison | None:
        """The first row that differs, in the order of the pass."""
        return next((row for row in self.rows if not row.ok), None)

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        compared = " and ".join(device.name for device in self.devices)
        if self.first:
            bad = sum(not row.ok for row in self.rows)
            return f"differs: {bad} of {len(self.rows)} rows. The first: {self.first}"
        if not self.training.ok:
            found = [*self.training.problems.items(), *self.training.gaps.items()]
            named = ", ".join(f"{device}: {f if isinstance(f, str) else format(f, '.1e')}" for device, f in found)
            return f"differs: every tensor agrees, but not the training ({named}; allowed {self.training.allowed:.0e})"
        agree = "agree" if len(self.devices) > 1 else "agrees"
        return f"rounding: {compared} {agree} with {REFERENCE} in all {len(self.rows)} rows and over the training"

    def lines(self) -> list[dict[str, Comparison]]:
        """The rows grouped by tensor, each group a dict by device, in the order of the pass."""
        lines: dict[tuple[int, str, str], dict[str, Comparison]] = {}
        seen: dict[tuple[str, str, str], int] = {}  # a layer that is used twice has every row twice
        for row in self.rows:
            key = row.part, row.what, row.device
            seen[key] = seen.get(key, 0) + 1
            lines.setdefault((seen[key], row.part, row.what), {})[row.device] = row
        return list(lines.values())

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON supports."""
        whole = {"ok": self.ok, "verdict": self.verdict, "gpu": self.gpu, "first": self.first and str(self.first)}
        return {
            **asdict(self),
            **whole,
            "reference": REFERENCE,
            "rows": [{**asdict(row), "verdict": row.verdict} for row in self.rows],
            "training": {**asdict(self.training), "ok": self.training.ok, "gaps": self.training.gaps},
        }
