"""The two images of the README, from the real pages: `make images` after a change of either page.

`xpnet serve` with a digit drawn on it, and the report of `xpnet parity`, in headless Chromium, by Playwright. They need
the extra `dev` and a Chromium on the search path.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).parents[2]
ASSETS = ROOT / "docs" / "assets"
PAGE, PARITY = ASSETS / "page.png", ASSETS / "parity.png"
MOST_BYTES = 150_000  # of both together: they lie in the repository and in the source archive
COLOURS = 128
SIZES = {PAGE: (1280, 860), PARITY: (1280, 720)}

# A three, in hundredths of the pad
THREE = [(34, 26), (47, 18), (62, 24), (62, 38), (48, 47), (63, 53), (67, 67), (55, 81), (41, 81), (32, 74)]


def main() -> None:
    sys.path.insert(0, str(ROOT / "tests"))
    from chromium import launched

    with launched() as browser, tempfile.TemporaryDirectory() as folder:
        with serving() as address:
            keep(PAGE, photographed(browser, PAGE, address, draw_three))
        keep(PARITY, photographed(browser, PARITY, parity_report(Path(folder)).as_uri(), scroll_to_tensors))
    total = sum(path.stat().st_size for path in SIZES)
    if total > MOST_BYTES:
        sys.exit(f"the images have {total:,} bytes, more than {MOST_BYTES:,}")


@contextmanager
def serving() -> Iterator[str]:
    """The address of a server with the model that comes with the package."""
    command = [sys.executable, "-u", "-m", "xpnet", "serve", "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        found = re.search(r"http://[\d.:]+", line)
        if found is None:
            sys.exit(f"xpnet serve did not start: {line}{server.stdout.read()}")
        yield found.group()
        server.terminate()


def parity_report(folder: Path) -> Path:
    """The report on a network that was trained on the embedded digits."""
    commands = [
        ["train", "--epochs", "4", "--quiet", "--out", str(folder / "run")],
        ["parity", str(folder / "run" / "model.safetensors"), "--html", str(folder / "parity.html")],
    ]
    for command in commands:
        subprocess.run([sys.executable, "-m", "xpnet", *command], cwd=ROOT, check=True)
    return folder / "parity.html"


def photographed(browser: Any, of: Path, address: str, act: Any = None) -> bytes:
    """The page in light colours, as the first screen shows it."""
    width, height = SIZES[of]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light", reduced_motion="reduce")
    page.goto(address)
    page.wait_for_load_state("networkidle")
    if act is not None:
        act(page)
    png = page.screenshot()
    page.close()
    return png


def draw_three(page: Any) -> None:
    """Draw with the mouse, and wait for the answer."""
    box = page.locator("#pad").bounding_box()
    first, *rest = [(box["x"] + box["width"] * x / 100, box["y"] + box["height"] * y / 100) for x, y in THREE]
    page.mouse.move(*first)
    page.mouse.down()
    for point in rest:
        page.mouse.move(*point, steps=4)
    page.mouse.up()
    page.mouse.move(1, 1)
    page.get_by_text("This is 3").first.wait_for(timeout=120_000)  # ms; what it says of half a digit is another answer
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(1000)  # what is drawn after the answer


def scroll_to_tensors(page: Any) -> None:
    """Where the rows of the layers begin, below the verdict and the devices."""
    page.get_by_role("heading", name="Tensors").evaluate("heading => heading.scrollIntoView()")


def keep(path: Path, png: bytes) -> None:
    """Write the image in few colours: pages are flat, and a quarter of the bytes shows the same."""
    path.parent.mkdir(exist_ok=True)
    with Image.open(io.BytesIO(png)) as image:
        few = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        few.save(path, optimize=True)
    sys.stdout.write(f"{path.relative_to(ROOT)}: {few.width} x {few.height}, {path.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main()
