"""Find the digits in a photo or a drawing and draw each as in MNIST, with Pillow and NumPy.

    sheet = find_glyphs("photo.jpg")                # sheet.glyphs[0].pixels: uint8 (28, 28), white on black
    reading = ImageReader(model).read("photo.jpg")  # reading.text: "407"
    explain(reading).save("strip.png")              # every stage as one image

The files, in the order of processing: `opening` (any file to grey values), `page` (cut out the page, without the table
around it), `ink` (grey values to ink), `components` and `shapes` (ink to shapes), `glyph` (a shape to the model's
image), `sheet` (all of these steps), `digit` (a model's answer for one glyph), `reader` (from the file to the answer),
`explain` (all stages as one image). `page` and `ink` divide the image into coarse `cells`; `model_input` gives the size
and shape of the images that a model takes.
"""

from xpnet.photo.digit import Digit, decide, shifted
from xpnet.photo.explain import explain
from xpnet.photo.glyph import Glyph, Pixels
from xpnet.photo.model_input import as_model_input, image_kind
from xpnet.photo.opening import ImageError, open_image
from xpnet.photo.reader import ImageReader, Reading
from xpnet.photo.sheet import Sheet, find_glyphs
from xpnet.photo.shipped import shipped_model_path

__all__ = [
    "Digit",
    "Glyph",
    "ImageError",
    "ImageReader",
    "Pixels",
    "Reading",
    "Sheet",
    "as_model_input",
    "decide",
    "explain",
    "find_glyphs",
    "image_kind",
    "open_image",
    "shifted",
    "shipped_model_path",
]
