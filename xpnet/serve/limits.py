"""What every request must obey, before any route sees it; and the threads that do the work."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import h11
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_BODY = 16 * 2**20  # bytes; the largest photo of a common phone has 12 million
HEAD_SECONDS = 10.0  # for a request to begin, once the connection is made or the last answer given
BODY_SECONDS = 20.0  # for a whole body to arrive
WORK_SECONDS = 20.0  # to wait for an answer, the queue included
MOST_WAITING = 64  # requests in work or in the queue; more are told to come again

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-cache",
}


class Guard:
    """ASGI middleware: refuses a foreign host or origin and a body that is too large or too slow, and adds the
    security headers to every answer.

    `host`: the name that the server was told to listen on. Others by which it may be called are `localhost`, the
    machine's own name, and any IP address: a page elsewhere can make a name of its own point here (DNS rebinding),
    but not an address.
    """

    def __init__(self, app: ASGIApp, host: str):
        self.app, self.names = app, {"localhost", socket.gethostname().lower(), host.lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if refusal := self._refusal(headers):
            status, line = refusal
            await JSONResponse({"error": line}, status)(scope, receive, send_guarded)
        else:
            await self.app(scope, limited(receive), send_guarded)

    def _refusal(self, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            return 400, "this server is not called by that name"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return 403, "only the server's own page may ask"
        length = headers.get("content-length", "0")
        return (413, TOO_LARGE) if length.isdecimal() and int(length) > MAX_BODY else None

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return "@" not in host and (name in self.names or bool(ipaddress.ip_address(name)))
        except ValueError:
            return False


TOO_LARGE = f"too large: at most {MAX_BODY // 2**20} MiB"


def limited(receive: Receive) -> Receive:
    """`receive`, with an end to how much may come and how long that may take."""
    deadline = asyncio.get_running_loop().time() + BODY_SECONDS
    size, whole = 0, False

    async def receive_limited() -> Message:
        nonlocal size, whole
        if whole:  # what comes now is the end of the connection: that may take its time
            return await receive()
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, f"the request did not arrive within {BODY_SECONDS:.0f} seconds") from None
        size += len(message.get("body", b""))
        if size > MAX_BODY:
            raise HTTPException(413, TOO_LARGE)
        whole = not message.get("more_body", False)
        return message

    return receive_limited


class Impatient(H11Protocol):
    """Uvicorn's HTTP, which by itself waits for ever for a request that has begun, and refuses in plain text what is
    no HTTP."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._be_patient()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._be_patient()

    def _be_patient(self) -> None:
        """While no request is at work, the rest of the last one and the head of the next have HEAD_SECONDS."""
        at_work = self.cycle is not None and not self.cycle.response_complete
        if at_work and self._patience:
            self._patience.cancel()
            self._patience = None
        elif not at_work and not self._patience:
            self._patience = self.loop.call_later(HEAD_SECONDS, self._close_if_idle)

    def _close_if_idle(self) -> None:
        self._patience = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):  # else an answer is under way or given
            headers = HEADERS | {"Content-Type": "application/json", "Connection": "close"}
            answer = h11.Response(status_code=400, reason=b"Bad Request", headers=list(headers.items()))
            line = json.dumps({"error": "this is no valid HTTP request"}).encode()
            for event in (answer, h11.Data(data=line), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class Worker:
    """Two threads that do all the work, so that a small question need not wait for a large photo, and a queue of
    limited length before them."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="xpnet")
        self._places = threading.Semaphore(MOST_WAITING)

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """function(*arguments) in one of the threads. 503 if the queue is full, or the answer too long in coming."""
        if not self._places.acquire(blocking=False):
            raise HTTPException(503, "busy: try again in a second", {"Retry-After": "1"})
        future = self._threads.submit(function, *arguments)
        future.add_done_callback(lambda _: self._places.release())
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), WORK_SECONDS)
        except TimeoutError:
            raise HTTPException(503, "busy: it took too long", {"Retry-After": "5"}) from None

    def close(self) -> None:
        """Let go of the threads; what waits for them is not done any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
