"""The contenders of `benchmarks/bench.py`: each file has `make(work, options)`, which gives a step to call.

A step takes the number of a batch and returns the loss before the update, as something that `float()` turns into a
number: reading it is not part of the time.
"""
