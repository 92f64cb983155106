"""Every tolerance of the package, each with its reason. No other file may define one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Arrays = dict[str, np.ndarray]

STEPS = (1e-6, 1e-7, 1e-8)
"""How far a gradient check moves its inputs. The error of a central difference is about step^2 from truncation and
2^-53 / step from rounding: both are small with the first step. The others are for correct gradients near kinks."""

GRADIENT = 1e-7
"""The error of a gradient check, relative to the sum of the absolute values of all its terms: about a thousand times
the usual error, and far less than a single wrong term causes, as all terms are of about the same size."""

FLOAT64 = 1e-12
"""The difference of two float64 computations of the same formula, relative to the largest number of the tensor: in sums
as short as those of the cases, at most a hundred roundings of 2^-53 add up."""

FLOAT32 = 1e-6
"""Sixteen roundings of float32 (2^-24 each). `rounding` says relative to what."""

SETTLED = 1e-2
"""The difference between outputs in evaluation and in training, relative to the largest of them, once running
statistics have settled on one batch. Dividing a variance by n or by n - 1 changes 0.2 % there; a forgotten factor
changes much more."""

LOSS_CURVE = 1e-4
"""The relative gap between two loss curves from the same seed, over the first 50 steps or so. Rounding errors grow with
each step: between float32 and float64 the gap reached 1e-6 in small networks. A gradient that is wrong by a tenth leads
to a gap of 1e-2 after ten steps of SGD."""

SURE = 1e-2
"""The error of a cross-entropy below this is taken relative to this. In float32 a cross-entropy is the logarithm of a
sum near 1, or the difference of numbers as large as the logits: however small it is, its error is about 2^-24 of
these."""

EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7}
"""The machine epsilon of the type that the operands of products are rounded to: each moves by at most half of it."""

SUM = 0.42 * 2.0**-24
"""The relative error of a number that is rounded to float32 once, as a root mean square: 0.42 of the largest, 2^-24
(the error is anywhere within half a last place, the number anywhere between two powers of 2)."""

DEVIATIONS = 5
"""How many standard deviations of such errors count as rounding: of a million sums, less than one is off by more."""

LONG = 64
"""Sums of at most this many terms, in any order, are correct to FLOAT32 of their terms: nothing is measured
for them."""

DRAWS = 6  # random perturbations in `rounding` and `product_rounding`
SUM_DRAWS = 16  # random perturbations in `summing`


def rounding(run: Callable[[Arrays], Arrays], values: Arrays, result: Arrays) -> Arrays:
    """How far each number of a float32 `run(values)` may be from the float64 `result`.

    A relative error is meaningless where large terms cancel: 1 - 0.9999999 has no correct digit in float32. The measure
    is therefore how much each number of the result changes when every input is perturbed by a relative 1e-6, up or down
    at random (the root mean square over a few such perturbations). For a product of matrices this is
    1e-6 sqrt(2 sum (a b)^2), and so at most 1.5e-6 |row| |column|; for an elementwise function it is 1e-6 |x f'(x)|.
    1e-6 times the largest number of the tensor is added, for the rounding of intermediate results.

    Some sums cancel for any input: the gradient of a bias before a BatchNorm is 0. Perturbed inputs do not show how
    large the terms of such a sum are, so `run` may perturb the terms too (`passes.MovedSums`). How large the partial
    sums of a long sum are is not measured here, but in `summing`.
    """
    rng = np.random.default_rng(0)
    square = {name: np.zeros(r.shape) for name, r in result.items()}
    for _ in range(DRAWS):
        changed = {name: moved(v, FLOAT32, rng) for name, v in values.items() if _real(v)}
        for name, r in run({**values, **changed}).items():
            square[name] += (r - result[name]) ** 2
    return {name: np.sqrt(s / DRAWS) + scaled(FLOAT32, result[name]) for name, s in square.items()}


def summing(run: Callable[[int], Arrays], result: Arrays) -> Arrays:
    """How far each number of a float32 pass may be from the float64 `result` because partial sums are rounded.

    `run(draw)` gives the same pass in float64, with every sum of products perturbed, up or down at random, by the
    standard deviation of its error (`passes.MovedTotals`), or {} if no sum is long. The perturbations are as small as
    the errors of a real pass: larger ones would flip the sign of more ReLU inputs. The measure is DEVIATIONS times the
    square root of two parts: the mean square change of the number itself, and that of all numbers of its tensor, as few
    draws may miss a single number.
    """
    square = {name: np.zeros(r.shape) for name, r in result.items()}
    for draw in range(SUM_DRAWS):
        changed = run(draw)
        if not changed:
            break
        for name, r in changed.items():
            square[name] += (r - result[name]) ** 2 / SUM_DRAWS
    return {name: DEVIATIONS * np.sqrt(s + s.sum() / max(s.size, 1)) for name, s in square.items()}


def product_rounding(run: Callable[[int], Arrays], result: Arrays) -> Arrays:
    """How far each number may be from `result` because the operands of products are rounded to 16 bits.

    `run(draw)` gives the same pass in float64, with every operand of every product perturbed by the machine epsilon, up
    or down at random. That is twice the maximum rounding error and about four times its average. The measure is the
    largest change of the number in a few such runs (where a ReLU input changes its sign, few numbers change much). The
    largest change of any number of the tensor is added, as six draws may miss a number. Results that depend on no
    product do not change: they must be correct to float32.
    """
    change = {name: np.zeros(r.shape) for name, r in result.items()}
    for draw in range(DRAWS):
        for name, r in run(draw).items():
            np.maximum(change[name], np.abs(r - result[name]), out=change[name])
    return {name: c + scaled(1.0, c) for name, c in change.items()}


def moved(values: np.ndarray, epsilon: float, chance: np.random.Generator) -> np.ndarray:
    """Each number changed by `epsilon` times itself, up or down at random."""
    return values * (1 + epsilon * chance.choice([-1, 1], values.shape))


def scaled(tolerance: float, tensor: np.ndarray) -> np.ndarray:
    """`tolerance` times the largest absolute value in the tensor, as an array of its shape."""
    return np.full(tensor.shape, tolerance * np.abs(tensor).max(initial=0.0))


def _real(values: np.ndarray) -> bool:
    return values.dtype.kind == "f"
