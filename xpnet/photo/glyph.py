"""One shape of ink drawn as in MNIST: upright, with a usual stroke width, fitted to a box, centred by mass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xpnet.photo.components import Mask
from xpnet.photo.shapes import Shape

FINE = 4  # the glyph is drawn this many times finer than the frame, then averaged down
STROKE = 1.9, 3.1  # the usual range of stroke widths in MNIST, in pixels, for a digit 20 pixels tall
USUAL_LEAN, FREE_LEAN = -0.12, 0.15  # MNIST's mean lean, and how far from it a digit may lean before it is sheared
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Glyph:
    """One shape found on the page. `pixels`: uint8 (H, W), white on black, at the size that the model takes; (H, W, 3)
    for a model of colour images. `box`: (left, top, right, bottom) in fractions of the upright image's width and
    height. `reason`: why it is not a digit, "" if it may be one.
    """

    pixels: Pixels
    box: tuple[float, float, float, float]
    reason: str = ""


def draw_glyph(shape: Shape, soft: NDArray[np.float32], size: tuple[int, int]) -> Pixels:
    """Draw `shape` as a uint8 image of `size` (H, W), white on black, as in MNIST (LeCun et al. 1998): it fits a box
    of 20/28 of the frame, its proportions are kept, and its centre of mass is at the centre of the frame.

    `soft` (H, W): the ink of the whole image. Only this shape's part of it is drawn, soft edges included.
    """
    inner = frame_inside(size)
    ink = _upright(_own_ink(shape, soft))
    ink = _fitted(ink, inner * FINE)
    ink = _usual_stroke(ink, inner * FINE)
    ink = _fitted(ink, inner * FINE)
    return _centred(ink, size)


def frame_inside(size: tuple[int, int]) -> int:
    """The side of the box that a digit fills: 20 of 28 pixels as in MNIST; all of a frame too small for a margin."""
    side = min(size)
    return side if side < 16 else round(side * 20 / 28)


def _own_ink(shape: Shape, soft: NDArray[np.float32]) -> NDArray[np.float32]:
    """The shape's ink with the soft edge around it, without the ink of its neighbours."""
    left, top, right, bottom = shape.box
    margin = max(2, round(shape.stroke / 4))
    own = np.pad(shape.mask, margin)
    mask = _grown(own, margin)
    around = np.zeros(mask.shape, np.float32)
    y0, x0 = max(top - margin, 0), max(left - margin, 0)
    part = soft[y0 : bottom + margin, x0 : right + margin]
    y, x = y0 - (top - margin), x0 - (left - margin)
    around[y : y + part.shape[0], x : x + part.shape[1]] = part
    return around * mask


def _grown(mask: Mask, radius: int) -> Mask:
    for axis in (0, 1):
        grown = mask.copy()
        for shift in range(1, radius + 1):
            grown |= np.roll(mask, shift, axis) | np.roll(mask, -shift, axis)  # the margin is empty: nothing wraps
        mask = grown
    return mask


def _moments(ink: NDArray[np.float32]) -> tuple[float, float, float]:
    """Centre of mass (y, x), and the lean: the slope of x regressed on y, in pixels to the right per pixel down."""
    y, x = np.arange(ink.shape[0]), np.arange(ink.shape[1])
    total = float(ink.sum())
    centre_y, centre_x = float(ink.sum(axis=1) @ y) / total, float(ink.sum(axis=0) @ x) / total
    spread = float(ink.sum(axis=1) @ (y - centre_y) ** 2)
    lean = float((y - centre_y) @ ink @ (x - centre_x)) / max(spread, 1e-6)
    return centre_y, centre_x, lean


def _upright(ink: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shear the ink so that its lean comes near MNIST's mean; a lean within the usual spread is left alone."""
    centre_y, _, lean = _moments(ink)
    excess = lean - USUAL_LEAN
    shear = float(np.clip(np.sign(excess) * max(abs(excess) - FREE_LEAN, 0), -0.5, 0.5))
    if shear == 0:
        return ink
    margin = int(abs(shear) * ink.shape[0]) + 1
    wider = Image.fromarray(np.pad(ink, ((0, 0), (margin, margin))))
    matrix = (1, shear, -shear * centre_y, 0, 1, 0)
    return np.asarray(wider.transform(wider.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR))


def _cropped(ink: NDArray[np.float32]) -> NDArray[np.float32]:
    y, x = np.nonzero(ink >= 0.4 * ink.max())
    return ink[y.min() : y.max() + 1, x.min() : x.max() + 1]


def _fitted(ink: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Crop to the ink and scale so that the longer side is `side`: averaging when shrinking, bicubic when enlarging."""
    ink = _cropped(ink)
    scale = side / max(ink.shape)
    height, width = (max(round(n * scale), 1) for n in ink.shape)
    how = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    return np.clip(np.asarray(Image.fromarray(ink).resize((width, height), how)), 0, 1)


def stroke_width(ink: NDArray[np.float32]) -> float:
    """Twice the area over the length of the outline, in pixels: for a stroke, its width.

    The outline's length is the sum of the gradient's magnitude, which soft edges hardly change.
    """
    padded = np.pad(ink, 1)
    down, across = np.diff(padded, axis=0)[:, 1:], np.diff(padded, axis=1)[1:, :]
    return float(2 * ink.sum() / np.hypot(down, across).sum())


def _usual_stroke(ink: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Bring a stroke width outside MNIST's usual range to the nearer end of it, by moving the outline in or out."""
    least, most = (side * width / 20 for width in STROKE)
    width = stroke_width(ink)
    if least <= width <= most:
        return ink
    wanted = least if width < least else most
    radius = (wanted - width) / 2
    if radius > 0:
        return _spread(np.pad(ink, int(radius) + 1), radius)
    return 1 - _spread(1 - np.pad(ink, 1), min(-radius, 0.35 * width))


def _spread(ink: NDArray[np.float32], radius: float) -> NDArray[np.float32]:
    """The largest value in a disk around each pixel; a pixel on its rim is weighted by how much the disk covers."""
    reach = int(np.ceil(radius))
    padded = np.pad(ink, reach, mode="edge")
    result = ink.copy()
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            weight = min(1.0, radius + 0.5 - float(np.hypot(dy, dx)))
            if weight > 0:
                part = padded[reach + dy : reach + dy + ink.shape[0], reach + dx : reach + dx + ink.shape[1]]
                np.maximum(result, np.float32(weight) * part, out=result)
    return result


def _centred(ink: NDArray[np.float32], size: tuple[int, int]) -> Pixels:
    """Average down into the frame, the centre of mass in its middle (to a quarter of a pixel), nothing cut off."""
    frame = np.zeros((size[0] * FINE, size[1] * FINE), np.float32)
    centre = _moments(ink)[:2]
    half = FINE / 2 if frame_inside(size) < min(size) else 0  # MNIST centres on pixel 14 of 0 to 27, not on 13.5
    y, x = (
        int(np.clip(round(room / 2 - 0.5 + half - middle), 0, room - length))
        for middle, length, room in zip(centre, ink.shape, frame.shape, strict=True)
    )
    frame[y : y + ink.shape[0], x : x + ink.shape[1]] = ink
    small = frame.reshape(size[0], FINE, size[1], FINE).mean(axis=(1, 3))
    return np.round(small * (255 / small.max())).astype(np.uint8)
