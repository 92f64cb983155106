"""How `xpnet serve` copes with many good and bad requests: rates, latencies, errors, and the memory before and after.

    python -m benchmarks.serve_load MODEL [--seconds 20] [--rate 200]

Starts a server of its own on 127.0.0.1, and connects to nothing else. It sends `--seconds` (at most 60) times `--rate`
requests, twice. First each kind of request is sent by itself; then all are mixed at a steady rate, whether or not
answers come in time (an "open" load: requests do not wait for a server that falls behind). Linux: the memory is read
from /proc.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CONNECTIONS = 128  # the most requests that are sent at once
FINE = {200}
REFUSED = {400, 404, 405, 413, 422}


def drawing_of_a_7(width: int, kind: str, noise: float = 0.0, **options: object) -> bytes:
    """An image file, dark on light."""
    image = Image.new("L", (width, width), 235)
    at = [(x * width, y * width) for x, y in ((0.3, 0.2), (0.7, 0.2), (0.45, 0.8))]
    ImageDraw.Draw(image).line(at, fill=25, width=width // 15, joint="curve")
    grain = np.random.default_rng(0).normal(0, noise, (width, width))
    file = io.BytesIO()
    Image.fromarray((np.asarray(image) + grain).clip(0, 255).astype(np.uint8)).save(file, kind, **options)
    return file.getvalue()


def requests() -> dict[str, tuple[int, bytes, set[int]]]:
    """By name: how often the request comes in a mix of 100, its bytes, and the statuses that are right for it."""
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28)).tolist()
    drawing, blank = drawing_of_a_7(256, "PNG"), io.BytesIO()
    Image.new("L", (256, 256), 255).save(blank, "PNG")
    page = "GET /static/app.js", b""
    return {
        "explain 28 x 28 pixels": (25, request_for("POST /api/explain", json.dumps({"pixels": pixels}).encode()), FINE),
        "the page's files": (25, request_for(*page), FINE),
        "read a drawing, 256 pixels": (5, request_for("POST /api/read", drawing), FINE),
        "read a photo, 1600 pixels": (1, request_for("POST /api/read", drawing_of_a_7(1600, "JPEG", 6)), FINE),
        "bad: no image": (10, request_for("POST /api/read", b"x" * 5000), REFUSED),
        "bad: cut off": (8, request_for("POST /api/read", drawing[:400]), REFUSED),
        "bad: blank": (6, request_for("POST /api/read", blank.getvalue()), REFUSED),
        "bad: other pixels": (6, request_for("POST /api/explain", b'{"pixels": [[1, 2]]}'), REFUSED),
        "bad: foreign host": (5, request_for(*page, host="evil.example"), REFUSED),
        "bad: wrong method": (5, request_for("GET /api/read", b""), REFUSED),
        "bad: says 1 GB": (4, request_for("POST /api/read", b"", length=10**9), REFUSED),
    }


def request_for(
    line: str, body: bytes, host: str = "127.0.0.1", length: int | None = None, connection: str = "close"
) -> bytes:
    size = len(body) if length is None else length
    head = f"{line} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n"
    return f"{head}Connection: {connection}\r\n\r\n".encode() + body


async def send(port: int, request: bytes) -> tuple[int, float]:
    """(status, seconds); status 0 if no whole answer came."""
    started = time.perf_counter()
    try:
        async with asyncio.timeout(30):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            answer = await reader.read()
            writer.close()
        status = int(answer.split(b" ", 2)[1])
    except (OSError, TimeoutError, IndexError, ValueError):
        status = 0
    return status, time.perf_counter() - started


async def one_by_one(port: int, request: bytes, seconds: float) -> tuple[int, float]:
    """How many requests were answered, two at a time, and in how many seconds."""

    async def repeat() -> int:
        count = 0
        while time.perf_counter() < end:
            await send(port, request)
            count += 1
        return count

    started = time.perf_counter()
    end = started + seconds
    return sum(await asyncio.gather(repeat(), repeat())), time.perf_counter() - started


async def mixed(port: int, rate: float, seconds: float) -> tuple[dict[str, list[tuple[int, float]]], float]:
    """The answers (status, seconds) for each kind, and the seconds until the last answer."""
    kinds = requests()
    deck = [name for name, (count, _, _) in kinds.items() for _ in range(count)]
    order = np.random.default_rng(0).permuted(np.resize(deck, round(rate * seconds)))
    came: dict[str, list[tuple[int, float]]] = defaultdict(list)
    places = asyncio.Semaphore(CONNECTIONS)

    async def one(name: str) -> None:
        asked = time.perf_counter()
        async with places:
            status, _ = await send(port, kinds[name][1])
        came[name].append((status, time.perf_counter() - asked))

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for i, name in enumerate(order.tolist()):
            await asyncio.sleep(max(started + i / rate - time.perf_counter(), 0))
            group.create_task(one(name))
    return came, time.perf_counter() - started


@contextlib.contextmanager
def serving(model: Path):
    """(process id, port) of a server."""
    command = [sys.executable, "-u", "-m", "xpnet", "serve", str(model), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        yield server.pid, int(re.search(r":(\d+)", server.stdout.readline()).group(1))
        server.terminate()


def family(pid: int) -> Iterator[int]:
    """The process and all its descendants."""
    yield pid
    with contextlib.suppress(OSError):  # it has ended
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from family(int(child))


def processor(pid: int) -> float:
    """Processor seconds of a process and its descendants: unlike rates, they hardly depend on what else is running."""
    ticks = 0
    for one in family(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> float:
    """Resident MiB of a process and its descendants; memory that they share counts more than once."""
    pages = 0
    for one in family(pid):
        with contextlib.suppress(OSError, IndexError):
            pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def table(came: dict[str, list[tuple[int, float]]]) -> list[str]:
    rows = [f"{'mixed':<28} {'sent':>6} {'right':>6} {'busy':>6} {'failed':>6} {'p50 ms':>8} {'p99 ms':>8}"]
    for name, (_, _, right) in requests().items():
        statuses = Counter("right" if s in right else "busy" if s == 503 else "failed" for s, _ in came[name])
        p50, p99 = np.quantile([seconds for _, seconds in came[name]], [0.5, 0.99]) * 1000
        counts = " ".join(f"{statuses[key]:>6}" for key in ("right", "busy", "failed"))
        rows.append(f"{name:<28} {len(came[name]):>6} {counts} {p50:>8.0f} {p99:>8.0f}")
    return rows


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("model", type=Path)
    options.add_argument("--seconds", type=float, default=20.0)
    options.add_argument("--rate", type=float, default=200.0)
    chosen = options.parse_args()
    seconds = min(chosen.seconds, 60.0)
    with serving(chosen.model) as (pid, port):
        print(f"{'one kind alone':<28} {'per s':>8} {'CPU ms':>8}")
        for name, (_, request, _) in requests().items():
            used = processor(pid)
            count, took = asyncio.run(one_by_one(port, request, 1.5))
            print(f"{name:<28} {count / took:>8.0f} {1000 * (processor(pid) - used) / count:>8.1f}")
        before, used = memory(pid), processor(pid)
        came, took = asyncio.run(mixed(port, chosen.rate, seconds))
        middle, used = memory(pid), processor(pid) - used
        again, _ = asyncio.run(mixed(port, chosen.rate, seconds))
        after = memory(pid)
    for name, results in again.items():
        came[name] += results
    print("\n".join(["", *table(came), ""]))
    print(f"{chosen.rate:.0f} a second asked for; the first {seconds:.0f} s of requests were answered in {took:.1f} s")
    print(f"the server had {used / took:.2f} of a processor meanwhile")
    print(f"memory: {before:.0f} MiB after the warm-up, {middle:.0f} after one round, {after:.0f} after two")


if __name__ == "__main__":
    main()
