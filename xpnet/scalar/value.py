"""`Value`: a number that remembers how it was made, so that derivatives can flow back through it.

Reverse mode in a few lines. A result y is made from inputs x1, x2, ... At that moment the *slopes* dy/dx1,
dy/dx2, ... are plain numbers: for y = a * b they are b and a. A `Value` keeps both, its inputs and the
slopes. Let L be the last result of all, usually a loss. The chain rule says

    dL/dx  =  sum, over every y that x was an input of, of  dL/dy * dy/dx

so if we start from dL/dL = 1 and visit the results backwards, each one only after everything made from it,
then every dL/dy is complete before it is handed on to the inputs of y. One visit each: all derivatives of L
cost about as much as L itself, no matter how many there are.

Sources: S. Linnainmaa (1970), the first publication of reverse mode; D. Rumelhart, G. Hinton, R. Williams,
"Learning representations by back-propagating errors", Nature 323 (1986), for networks; A. Griewank, A.
Walther, "Evaluating Derivatives", 2nd ed., SIAM (2008), for the method in general and its cost.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from operator import mul
from typing import Any, TypeVar, overload

T = TypeVar("T", "Value", float)  # plain numbers in, plain numbers out; Values in, Values out


class Value:
    """One number, with its gradient.

    >>> x, y = Value(3.0), Value(2.0)
    >>> z = x * y + x ** 2
    >>> z.backward()
    >>> z.data, x.grad, y.grad               # 3*2 + 3^2, y + 2x, x
    (15.0, 8.0, 3.0)

    `data` is the number, `grad` the derivative of the final result with respect to it (0.0 until `backward()` is called
    on a result). `inputs` and `slopes` say what it was made from; both are empty for a number that you wrote yourself.
    An operation that is missing here takes one line: `Value(math.sin(x.data), (x,), (math.cos(x.data),))`.

    The other operand of `+ - * / **` may be a plain number, on either side. Slopes are taken when an operation runs:
    after a change to `data`, compute the results again.

    Results that are too large are those of Python's floats: `+ - * /` give inf, `**` and `exp` raise OverflowError. A
    slope that is too large is inf.
    """

    __slots__ = ("data", "grad", "inputs", "slopes")

    def __init__(self, data: float, inputs: tuple[Value, ...] = (), slopes: tuple[float, ...] = ()):
        self.data = data if type(data) is float else plain_number(data)
        self.grad = 0.0
        self.inputs = inputs
        self.slopes = slopes

    def __repr__(self) -> str:
        return f"Value(data={self.data}, grad={self.grad})"

    # Arithmetic -------------------------------------------------------------------------------------------
    # The slopes of each result, with respect to a and to b:
    #
    #     a + b     1            1
    #     a - b     1           -1
    #     a * b     b            a
    #     a / b     1 / b       -a / b^2
    #     a ** b    b a^(b-1)    a^b log a

    def __add__(self, other: Value | float) -> Value:
        other = as_value(other)
        return Value(self.data + other.data, (self, other), (1.0, 1.0))

    def __sub__(self, other: Value | float) -> Value:
        other = as_value(other)
        return Value(self.data - other.data, (self, other), (1.0, -1.0))

    def __mul__(self, other: Value | float) -> Value:
        other = as_value(other)
        return Value(self.data * other.data, (self, other), (other.data, self.data))

    def __truediv__(self, other: Value | float) -> Value:
        other = as_value(other)
        if other.data == 0:
            raise ZeroDivisionError(f"{self.data} / 0: cannot divide by zero")
        quotient = self.data / other.data
        return Value(quotient, (self, other), (1.0 / other.data, -quotient / other.data))

    def __pow__(self, exponent: Value | float) -> Value:
        if isinstance(exponent, Value):
            base, n = self.data, exponent.data
            slopes = (_slope_by_base(base, n), _slope_by_exponent(base, n))
            return Value(_power(base, n), (self, exponent), slopes)
        n = plain_number(exponent)
        return Value(_power(self.data, n), (self,), (_slope_by_base(self.data, n),))

    def __neg__(self) -> Value:
        return Value(-self.data, (self,), (-1.0,))

    # Python calls these for `2 - x`: the plain number stands on the left, `self` on the right.

    def __radd__(self, other: float) -> Value:
        return as_value(other) + self

    def __rsub__(self, other: float) -> Value:
        return as_value(other) - self

    def __rmul__(self, other: float) -> Value:
        return as_value(other) * self

    def __rtruediv__(self, other: float) -> Value:
        return as_value(other) / self

    def __rpow__(self, base: float) -> Value:
        base = plain_number(base)
        return Value(_power(base, self.data), (self,), (_slope_by_exponent(base, self.data),))

    # Functions --------------------------------------------------------------------------------------------

    def relu(self) -> Value:
        """max(0, x). Its slope at 0 is taken as 0."""
        if self.data <= 0:  # tested this way round so that nan stays nan instead of becoming 0
            return Value(0.0, (self,), (0.0,))
        return Value(self.data, (self,), (1.0,))

    def exp(self) -> Value:
        """y = e^x, with slope y. Raises OverflowError above x = 709.78, where y leaves the range of a float."""
        try:
            result = math.exp(self.data)
        except OverflowError:
            raise OverflowError(f"exp({self.data}) is too large for a float") from None
        return Value(result, (self,), (result,))

    def log(self) -> Value:
        """The natural logarithm, with slope 1 / x. Raises ValueError unless x > 0."""
        if self.data <= 0:
            raise ValueError(f"log({self.data}): the logarithm exists only for numbers above 0")
        return Value(math.log(self.data), (self,), (1.0 / self.data,))

    def tanh(self) -> Value:
        """y = (e^x - e^-x) / (e^x + e^-x), the hyperbolic tangent, between -1 and 1, with slope 1 - y^2."""
        result = math.tanh(self.data)
        return Value(result, (self,), (1.0 - result * result,))

    def sigmoid(self) -> Value:
        """y = 1 / (1 + e^-x), between 0 and 1, with slope y (1 - y) = e^-|x| / (1 + e^-|x|)^2.

        Only e^-|x| is ever computed: it is at most 1 and cannot overflow.
        """
        tail = math.exp(-abs(self.data))
        result = (1.0 if self.data >= 0 else tail) / (1.0 + tail)
        return Value(result, (self,), (tail / (1.0 + tail) ** 2,))

    # Derivatives ------------------------------------------------------------------------------------------

    def backward(self) -> None:
        """Compute the derivatives of this Value with respect to all Values it was made from, and put each into its
        Value's `grad`.

        Gradients of the numbers that you wrote yourself (weights, inputs) *accumulate*: a second
        `backward()` adds to the first; set `grad = 0.0` to start afresh. Gradients of intermediate results
        are those of the latest call only. Time and memory are linear in the number of operations, and depth
        is no limit.
        """
        order = self._results_in_order()
        for node in order:
            node.grad = 0.0
        self.grad += 1.0
        for node in reversed(order):
            grad = node.grad
            for child, slope in zip(node.inputs, node.slopes, strict=True):
                child.grad += slope * grad

    def _results_in_order(self) -> list[Value]:
        """All results that self was made from, and self, each one after its own inputs.

        A depth-first search with its own stack: recursion would end at Python's limit of about 1000 calls.
        A result is put on the stack a second time, marked, under its inputs: when the mark comes up, all
        its inputs are done.
        """
        order: list[Value] = []
        seen: set[Value] = set()
        stack = [(self, False)] if self.inputs else []
        while stack:
            node, inputs_done = stack.pop()
            if inputs_done:
                order.append(node)
            elif node not in seen:
                seen.add(node)
                stack.append((node, True))
                stack.extend([(child, False) for child in node.inputs if child.inputs and child not in seen])
        return order


@overload
def weighted_sum(weights: Sequence[Value], inputs: Sequence[Value], bias: Value) -> Value: ...
@overload
def weighted_sum(weights: Sequence[Value], inputs: Sequence[float], bias: Value) -> float: ...
def weighted_sum(weights: Sequence[Value], inputs: Sequence[Any], bias: Value) -> Value | float:
    """bias + weights[0] * inputs[0] + weights[1] * inputs[1] + ..., as *one* result. As many inputs as weights.

    Written with `*` and `+` it would create two results for every weight. They are not needed, as the slopes are known:
    with respect to a weight its input, to an input its weight, to the bias 1. If no input is a Value, no graph is
    wanted, and the answer is a plain number.
    """
    w = [weight.data for weight in weights]
    if Value not in map(type, inputs):
        return sum(map(mul, w, inputs), bias.data)
    values = [as_value(x) for x in inputs]
    x = [value.data for value in values]
    total = sum(map(mul, w, x), bias.data)
    return Value(total, (bias, *weights, *values), (1.0, *x, *w))


def as_value(x: Value | float) -> Value:
    """`x` itself if it is a Value, else a new Value of that number."""
    return x if isinstance(x, Value) else Value(x)


def plain_number(x: Value | float) -> float:
    """`x` as a float, without its graph if it is a Value. Raises TypeError if it is no real number."""
    if type(x) is float:
        return x
    if isinstance(x, Value):
        return x.data
    if isinstance(x, numbers.Real):
        return float(x)
    raise TypeError(f"expected a number or a Value, not {type(x).__name__}")


def _power(base: float, n: float) -> float:
    if base == 0 and n < 0:
        raise ZeroDivisionError(f"0 ** {n}: zero has no negative powers")
    if base < 0 and not n.is_integer():
        raise ValueError(f"({base}) ** {n}: a negative number has only whole powers")
    try:
        return base**n
    except OverflowError:
        raise OverflowError(f"{base} ** {n} is too large for a float") from None


def _slope_by_base(base: float, n: float) -> float:
    """The derivative of base^n with respect to base: n base^(n-1)."""
    if n == 0:
        return 0.0
    if base == 0 and 0 < n < 1:
        raise ZeroDivisionError(f"0 ** {n}: its slope is infinite there, so it has no derivative")
    try:
        return n * _power(base, n - 1)
    except OverflowError:
        return n * (_power(base, n) / base)  # infinite, unless base ** n itself is too large


def _slope_by_exponent(base: float, n: float) -> float:
    """The derivative of base^n with respect to n: base^n log base."""
    if not base <= 0:  # tested this way round so that nan stays nan
        return _power(base, n) * math.log(base)
    if base == 0 and n > 0:
        return 0.0
    raise ValueError(
        f"({base}) ** {n} has no derivative with respect to its exponent: use a base above 0, or a plain exponent"
    )
