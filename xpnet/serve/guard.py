"""The checks that every request must pass before any route sees it."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xpnet.serve import limits

SECURITY_HEADERS = {
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
    """ASGI middleware: refuses a foreign host or origin and a body that is too large or too slow, limits all bodies
    together, and adds the security headers to every answer.

    `host`: the name that the server was told to listen on. Requests may also name it as `localhost`, by the machine's
    own name, or by any IP address: a page elsewhere can make a name of its own point here (DNS rebinding), but not an
    address. `largest`: by path, how many bytes a body may have; on all other paths, `default`.
    """

    def __init__(self, app: ASGIApp, host: str, largest: dict[str, int], default: int):
        self.app, self.names = app, {"localhost", socket.gethostname().lower(), host.lower()}
        self.largest, self.default = largest, default
        self.bodies = Bodies()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        try:
            self._check(headers)
            body = Body(receive, headers, self.largest.get(scope["path"], self.default))
            with self.bodies.room_for(body):
                await self.app(scope, body.receive, send_guarded)
        except HTTPException as refused:  # by the lines above: the app answers its own
            answer = JSONResponse({"error": refused.detail}, refused.status_code, refused.headers)
            await answer(scope, receive, send_guarded)

    def _check(self, headers: Headers) -> None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            raise HTTPException(400, "this server is not called by that name")
        origin = headers.get("origin")
        if origin is not None and not same_host(origin, host):
            raise HTTPException(403, "only the server's own page may ask")

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return "@" not in host and (name in self.names or bool(ipaddress.ip_address(name)))
        except ValueError:
            return False


def same_host(origin: str, host: str) -> bool:
    """Whether a page of that origin came from that host."""
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:  # no URL at all
        return False


class Body:
    """The body of one request. `receive` passes it to the app, and limits how much may arrive (413) and how long that
    may take (408). `size`: the bytes to reserve before any has arrived: what the head of the request says, or else the
    most that is allowed (0 if there is no body). `complete`: nothing more will arrive.
    """

    def __init__(self, receive: Receive, headers: Headers, largest: int):
        self._receive, self._largest = receive, largest
        self._deadline = asyncio.get_running_loop().time() + limits.BODY_SECONDS
        self._timeout: asyncio.Timeout | None = None  # while the app waits for the next part
        self._came, self.complete = 0, False
        self.size = int(headers.get("content-length", largest if "transfer-encoding" in headers else 0))
        self._check(self.size)

    def _check(self, size: int) -> None:
        if size > self._largest:
            kib = self._largest // 1024
            raise HTTPException(413, f"too large: at most {f'{kib // 1024} MiB' if kib >= 1024 else f'{kib} KiB'}")

    async def receive(self) -> Message:
        if self.complete:  # now only the end of the connection can come, at any time
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline) as self._timeout:
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, "the request arrived too slowly", {"Connection": "close"}) from None
        finally:
            self._timeout = None
        self._came += len(message.get("body", b""))
        self._check(self._came)
        self.complete = not message.get("more_body", False)
        return message

    def give_up(self) -> None:
        """Stop waiting for the rest."""
        self._deadline = 0.0
        if self._timeout:
            self._timeout.reschedule(0.0)


class Bodies:
    """The bodies held at the same time, together at most limits.BODIES_BYTES. If there is no room for a new one, those
    that have been arriving for the longest time are ended: clients who never finish do not keep others out."""

    def __init__(self) -> None:
        self._held: dict[Body, None] = {}  # the oldest first

    @contextmanager
    def room_for(self, body: Body) -> Iterator[None]:
        """Hold the body inside the block. Raises 503 if bodies that have arrived, and are in work, leave no room."""
        if body.size <= limits.SMALL_BODY:
            yield
            return
        for other in list(self._held):
            if not other.complete and not self._has_room(body):
                del self._held[other]
                other.give_up()
        if not self._has_room(body):
            raise busy()
        self._held[body] = None
        try:
            yield
        finally:
            self._held.pop(body, None)

    def _has_room(self, body: Body) -> bool:
        return body.size + sum(held.size for held in self._held) <= limits.BODIES_BYTES


def busy(why: str = "try again in a second") -> HTTPException:
    """The refusal for a request that comes while the server is busy: 503, try again."""
    return HTTPException(503, f"busy: {why}", {"Retry-After": "1"})
