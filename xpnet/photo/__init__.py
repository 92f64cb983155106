"""From a photo or a drawing to digits as MNIST has them, with Pillow and NumPy.

    sheet = read("photo.jpg")                       # sheet.glyphs[0].pixels: uint8 (28, 28), white on black
    reading = read_digits("photo.jpg", predict)     # reading.text: "407"
    explain(reading).save("strip.png")              # every stage, to be looked at

The rooms, in the order of the work: `opening` (any file to grey values), `page` (the table around it left out), `ink`
(grey values to ink), `components` and `digits` (ink to shapes), `glyph` (a shape to the model's picture), `reading`
(the whole way), `explain` (the way as one picture), `model_input` (what a model of this library takes). `page` and
`ink` look at the picture in coarse `cells`.
"""

from xpnet.photo.explain import explain
from xpnet.photo.glyph import Pixels
from xpnet.photo.model_input import as_samples, picture_size
from xpnet.photo.opening import ImageError, open_image
from xpnet.photo.reading import Digit, Glyph, Reading, Sheet, decide, read, read_as_it_is, read_digits, shifts
from xpnet.photo.shipped import shipped_model_path

__all__ = [
    "Digit",
    "Glyph",
    "ImageError",
    "Pixels",
    "Reading",
    "Sheet",
    "as_samples",
    "decide",
    "explain",
    "open_image",
    "picture_size",
    "read",
    "read_as_it_is",
    "read_digits",
    "shifts",
    "shipped_model_path",
]
