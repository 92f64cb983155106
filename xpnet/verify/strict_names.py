"""The portable subset: the names and arguments that NumPy 2 and CuPy 14 both have, with the same meaning.

In each line, arguments before "/" are given by position, those after it by position or by name, and those after "*"
only by name. What has no line here does not exist on the strict device. If a layer needs more, add a line; where CuPy
can be imported, a test compares every line with the signatures of NumPy and CuPy.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Arguments:
    """The arguments that a function takes."""

    by_position: tuple[str, ...]
    by_name: frozenset[str]
    any_number: bool = False  # any number of positional arguments, as in reshape(2, 3)

    @classmethod
    def read(cls, text: str) -> Arguments:
        """Parse a line such as "a / axis * keepdims", or "... / order" for any number of arguments by position."""
        positional, _, keyword_only = text.partition("*")
        first, _, either = positional.partition("/")
        any_number = first.strip() == "..."
        names = () if any_number else (*first.split(), *either.split())
        return cls(names, frozenset([*either.split(), *keyword_only.split()]), any_number)

    def problem(self, args: tuple, kwargs: dict) -> str | None:
        """Why this call is not portable, or None if it is."""
        unknown = [name for name in kwargs if name not in self.by_name]
        if unknown:
            return f"CuPy 14 and NumPy 2 do not share the argument {unknown[0]}="
        if len(args) > len(self.by_position) and not self.any_number:
            return f"CuPy 14 and NumPy 2 share {len(self.by_position)} arguments by position, not {len(args)}"
        return None


def _lines(text: str) -> dict[str, Arguments]:
    rows = (line.partition(":") for line in text.strip().splitlines())
    return {name: Arguments.read(arguments) for names, _, arguments in rows for name in names.split()}


ELEMENTWISE = _lines("""
abs absolute negative sign square sqrt reciprocal exp expm1 exp2 log log1p log2: x / out * dtype
sin cos tan sinh cosh tanh arcsin arccos arctan arcsinh arccosh arctanh: x / out * dtype
floor ceil rint trunc isfinite isinf isnan logical_not invert: x / out * dtype
add subtract multiply divide true_divide floor_divide remainder power: x y / out * dtype
maximum minimum fmax fmin arctan2 hypot copysign logaddexp: x y / out * dtype
equal not_equal less less_equal greater greater_equal: x y / out * dtype
logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor left_shift right_shift: x y / out * dtype
""")

FUNCTIONS = ELEMENTWISE | _lines("""
sum prod mean: a / axis dtype out keepdims
max min amax amin any all: a / axis out keepdims
argmax argmin: a / axis * out keepdims
var std: a / axis dtype out ddof keepdims
cumsum cumprod: a / axis dtype out
count_nonzero: a / axis
linalg.norm: x / ord axis keepdims
empty zeros ones: shape / dtype order
full: shape fill_value / dtype order
empty_like zeros_like ones_like: a / dtype order * shape
full_like: a fill_value / dtype order * shape
arange: start stop step / * dtype
linspace: start stop / num endpoint * dtype
eye: N M / k dtype
tril triu: m / k
array asarray: host_or_a / dtype
ascontiguousarray: a / dtype
copyto: dst src / * where
where: condition x y /
clip: a a_min a_max / out
nan_to_num: x / copy nan posinf neginf
take: a indices / axis out
take_along_axis: a indices / axis
put_along_axis: a indices values / axis
searchsorted: a v / side
sort argsort flip: a / axis
reshape: a shape /
ravel: a /
transpose: a / axes
swapaxes: a axis1 axis2 /
moveaxis: a source destination /
expand_dims squeeze: a / axis
broadcast_to: a shape /
concatenate stack: arrays / axis out
split: a sections / axis
repeat: a repeats / axis
tile: a reps /
roll: a shift / axis
pad: a pad_width / mode * constant_values
outer: a b / out
lib.stride_tricks.as_strided: a / shape strides
lib.stride_tricks.sliding_window_view: a window_shape / axis
nonzero flatnonzero argwhere: a /
bincount: a / weights minlength
unique: a /
""")

METHODS = _lines("""
sum prod mean: / axis dtype out keepdims
max min any all: / axis out keepdims
argmax argmin: / axis out * keepdims
var std: / axis dtype out ddof keepdims
cumsum cumprod: / axis dtype out
astype: dtype / * copy
copy: / order
fill: value /
view: dtype /
reshape: ... / * order
transpose: ... /
ravel flatten: / order
swapaxes: axis1 axis2 /
squeeze: / axis
diagonal: / offset axis1 axis2
take: indices / axis out
repeat: repeats / axis
clip: a_min a_max / out
round: / decimals out
sort argsort: / axis
nonzero: /
""")


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


PROPERTIES = _names("dtype flags imag itemsize mT nbytes ndim real shape size strides T")

CONSTANTS = _names("""
pi e inf nan newaxis bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64
dtype finfo iinfo promote_types integer floating issubdtype
""")

# Their results depend on values (how many, how large), so the host has to wait for the device.
READS_BACK = _names("nonzero flatnonzero argwhere bincount unique lib.stride_tricks.sliding_window_view")

# How many device arrays these compute with. The host must read any further ones, as plain numbers.
ARRAYS_OF = {"arange": 0, "linspace": 0, "fill": 1, "repeat": 1, "tile": 1}

# These refuse an axis for a 0-d array, where NumPy takes axis 0 or -1.
ALONG_AN_AXIS = _names("sum prod max min amax amin any all argmax argmin cumsum cumprod")

# Modes of `pad`. CuPy has a few others: ramps, which make the host wait, functions of a row, and memory left as it is.
PADDINGS = _names("constant edge maximum mean minimum reflect symmetric wrap")

# Parameters that take only a device array, and those that also take a number; neither takes a host array.
ARRAYS = _names("a b condition dst m")
ARRAYS_OR_NUMBERS = _names("a_max a_min indices src v value values weights x y")
PLAIN = _names("constant_values sections shape")  # and those that take only plain numbers

_PRODUCT = "matrix products go through backend.matmul: CuPy refuses its own while a step is captured"
HINTS = dict.fromkeys(_names("matmul dot vdot inner tensordot einsum"), _PRODUCT) | {
    "random": "random numbers come from backend.rng, or on the host from backend.host_rng",
    "errstate": "a GPU keeps no floating point state, and CuPy has no errstate",
}
