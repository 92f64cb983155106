"""The time of `from xpnet import nn, train` compared with `import numpy`: `python benchmarks/import_time.py [runs]`.

Fresh interpreters run in turn, so that a busy machine slows both alike. From the median of each, the median of a bare
interpreter is subtracted.
"""

import os
import platform
import statistics
import subprocess
import sys
from time import perf_counter


def main(runs: int = 21) -> None:
    times: dict[str, list[float]] = {"pass": [], "import numpy": [], "from xpnet import nn, train": []}
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(
        [sys.executable, "-c", "from xpnet import nn, train"], env=environment, check=True
    )  # compiles files that are not compiled yet
    for _ in range(runs):
        for code, seconds in times.items():
            start = perf_counter()
            subprocess.run([sys.executable, "-c", code], env=environment, check=True)
            seconds.append(perf_counter() - start)
    bare, numpy, xpnet = map(statistics.median, times.values())
    print(f"Python {platform.python_version()}, median of {runs} interpreters each")
    print(f"import numpy {1000 * (numpy - bare):6.1f} ms")
    print(f"nn and train {1000 * (xpnet - bare):6.1f} ms, {(xpnet - bare) / (numpy - bare):.2f} x import numpy")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
