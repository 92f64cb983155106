"""Where images are opened and the model is asked: never on the event loop, which must be free for other clients."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from pebble import ProcessExpired, ProcessPool
from starlette.requests import ClientDisconnect, Request

from xpnet.backend import Backend
from xpnet.photo import ImageError, open_image
from xpnet.photo.opening import MAX_PIXELS, ImageTooLargeError, Luma
from xpnet.serve import limits
from xpnet.serve.guard import busy

Result = TypeVar("Result")


class Work:
    """Two processes that open images, one of them the small ones, so that a drawing need not wait for a photo; two
    threads that ask the model; and queues before them, of limited length.

    A decoder meets hostile bytes: as a process of its own it can be ended when it takes too long or too much memory,
    and it may crash.
    """

    def __init__(self, backend: Backend):
        self._threads = ThreadPoolExecutor(2, "xpnet", initializer=backend.use)
        self._small, self._large = opener(), opener()
        self._queues = {self._threads: asyncio.Semaphore(2), self._small: asyncio.Lock(), self._large: asyncio.Lock()}
        self._waiting = 0

    def start(self) -> None:
        """Start the processes, so that the first image need not wait for them."""
        for process in (self._small, self._large):
            process.schedule(abs, [0])

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place in the queues, for all that one request has to be done. 503 if there is none, or if the answer is too
        long in coming."""
        if self._waiting >= limits.WAITING:
            raise busy()
        self._waiting += 1
        try:
            async with asyncio.timeout(limits.WORK_SECONDS):
                yield
        except TimeoutError:
            raise busy("it took too long") from None
        except asyncio.CancelledError:
            raise busy("the server is about to stop") from None
        finally:
            self._waiting -= 1

    async def run(self, client: Request, function: Callable[..., Result], *arguments: Any) -> Result:
        """function(*arguments) in one of the threads."""
        async with self._turn(client, self._threads):
            return await asyncio.wrap_future(self._threads.submit(function, *arguments))

    async def open(self, client: Request, image: bytes) -> Luma:
        """`open_image` in one of the processes."""
        try:
            return await self._opened(client, self._small, image, limits.SMALL_IMAGE)
        except ImageTooLargeError:
            return await self._opened(client, self._large, image, MAX_PIXELS)

    async def _opened(self, client: Request, process: ProcessPool, image: bytes, max_pixels: int) -> Luma:
        async with self._turn(client, process):
            opening = process.schedule(open_image, [image, max_pixels], timeout=limits.OPEN_SECONDS)
            try:
                return await asyncio.wrap_future(opening)
            except TimeoutError:
                raise ImageError("it takes too long to open") from None
            except ProcessExpired:
                raise ImageError("it cannot be opened: its decoder crashed") from None

    @asynccontextmanager
    async def _turn(self, client: Request, workers: ThreadPoolExecutor | ProcessPool) -> AsyncIterator[None]:
        """Wait for a free one of the workers. Nothing is done for a client that has gone meanwhile."""
        async with self._queues[workers]:
            if await client.is_disconnected():
                raise ClientDisconnect
            yield

    def close(self) -> None:
        """Let go of threads and processes; what waits for them is not done any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in (self._small, self._large):
            process.stop()
            process.join()


def opener() -> ProcessPool:
    """A process for `open_image`. It is started anew, not forked: this one has threads."""
    spawn = multiprocessing.get_context("spawn")
    return ProcessPool(1, initializer=restrict, initargs=[limits.OPEN_BYTES], context=spawn)


def restrict(most: int) -> None:
    """Let this process give way to others, and have at most so many bytes more than it has now (on Linux: others do
    not tell)."""
    if hasattr(os, "nice"):
        os.nice(5)
    status = Path("/proc/self/status")
    if status.exists():
        import resource

        data = 1024 * int(re.search(r"VmData:\s+(\d+)", status.read_text())[1])  # type: ignore[index]
        resource.setrlimit(resource.RLIMIT_DATA, (data + most, data + most))
