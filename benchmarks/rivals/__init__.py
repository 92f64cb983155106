"""The contenders of `benchmarks/bench.py`: in each file, `make(work, threads, *options)` returns a step to call.

A step takes the number of a batch and returns the loss before the update, as an object that `float()` accepts: reading
the loss is not part of the time.
"""
