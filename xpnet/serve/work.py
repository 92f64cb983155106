"""Where images are opened and the model runs: never on the event loop, which must be free for other clients."""

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
    """Two processes that open images, two threads that run the model, and queues of limited length for both.

    One of the processes opens only small images, so that a drawing need not wait for a photo. A decoder may be given
    hostile bytes: in a process of its own, it can be ended when it takes too long or too much memory, and it may crash.
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
        """A place in the queues, for all the work of one request. Raises 503 if there is none, or if the work takes too
        long."""
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
        """Run function(*arguments) in one of the threads."""
        async with self._turn(client, self._threads):
            return await asyncio.wrap_future(self._threads.submit(function, *arguments))

    async def open(self, client: Request, image: bytes) -> Luma:
        """Run `open_image` in one of the processes."""
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
        """Wait for a free worker. If the client has gone meanwhile, raise ClientDisconnect: nothing is done for it."""
        async with self._queues[workers]:
            if await client.is_disconnected():
                raise ClientDisconnect
            yield

    def close(self) -> None:
        """Stop the threads and processes; work that is still waiting is dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in (self._small, self._large):
            process.stop()
            process.join()


def opener() -> ProcessPool:
    """A process for `open_image`. It is spawned, not forked, because this process has threads."""
    spawn = multiprocessing.get_context("spawn")
    return ProcessPool(1, initializer=restrict, initargs=[limits.OPEN_BYTES], context=spawn)


def restrict(most: int) -> None:
    """Lower the priority of this process, and limit its memory to `most` bytes more than it has now (on Linux only:
    other systems do not say how much it has)."""
    if hasattr(os, "nice"):
        os.nice(5)
    status = Path("/proc/self/status")
    if status.exists():
        import resource

        data = 1024 * int(re.search(r"VmData:\s+(\d+)", status.read_text())[1])  # type: ignore[index]
        resource.setrlimit(resource.RLIMIT_DATA, (data + most, data + most))
