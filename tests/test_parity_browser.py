"""The page of `xpnet parity` in a real browser."""

from __future__ import annotations

from chromium import barriers, launched, needs_chromium

from xpnet.verify.parity_page import page
from xpnet.verify.parity_result import REFERENCE, Comparison, Device, Parity, Training

pytestmark = needs_chromium

DEVICES = (Device("cpu", "cpu", "float32"), Device("cuda:0", "gpu", "a GPU"))


def compared(*results):
    """A comparison in which the GPU gave these for one tensor each."""
    rows = [
        Comparison("layers.0 (Linear)", f"output {i}", name, *result)
        for i, result in enumerate(results)
        for name in NAMES
    ]
    curve = (2.0, 1.0, 0.5)
    training = Training("Three steps", {REFERENCE: curve, "cpu": curve, "cuda:0": curve}, {})
    return Parity("A network", DEVICES, tuple(rows), training, ("A note.",))


NAMES = [device.name for device in DEVICES]
ROUNDING = (1.0, 1e-7, 1e-6, "[0, 1]")
DIFFERS = (9e5, 1e-2, 1e-6, "[0, 1]")
PROBLEM = (0.0, 0.0, 0.0, "", "not a number")


def test_axe_finds_no_barriers():
    with launched() as browser:
        for results in ([ROUNDING], [ROUNDING, DIFFERS, PROBLEM]):
            for width in (390, 1280):
                shown = browser.new_page(viewport={"width": width, "height": 800})
                shown.set_content(page(compared(*results)))
                assert barriers(shown) == "", (results, width)
