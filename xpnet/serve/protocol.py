"""How long a connection may wait, and how many there may be."""

from __future__ import annotations

import asyncio
import json
from typing import cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from xpnet.serve import limits
from xpnet.serve.guard import SECURITY_HEADERS


class TimeoutProtocol(H11Protocol):
    """Uvicorn's HTTP with time limits, an end to idle connections, and refusals in JSON.

    Uvicorn itself waits for ever for the rest of a request's head, and for a client that does not read its answer. When
    there are too many connections, it refuses new ones instead of closing idle ones. It refuses malformed requests in
    plain text.

    The server waits for the client while no request is at work, or while the client does not take what is sent.
    (While a body arrives, the request counts as at work: the `Guard` limits that time.)
    """

    _timer: asyncio.TimerHandle | None = None
    _waiting_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()
        if len(self.connections) > limits.CONNECTIONS:
            everyone = cast(set[TimeoutProtocol], self.connections)
            idle = [connection for connection in everyone if connection._timer]  # at least this one
            longest = min(idle, key=lambda connection: connection._waiting_since)
            everyone.discard(longest)  # connection_lost is called later, by the event loop
            longest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_timer()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._watch()

    def _watch(self) -> None:
        """Start the timer when the server begins to wait for the client, and stop it when the wait is over. Data that
        arrives meanwhile does not stop it: otherwise a client could go on for ever, a byte at a time."""
        at_work = self.cycle is not None and not self.cycle.response_complete
        unread = self.flow.write_paused
        if at_work and not unread:
            self._stop_timer()
        elif not self._timer:
            seconds = limits.ANSWER_SECONDS if unread else limits.HEAD_SECONDS
            self._waiting_since = self.loop.time()
            self._timer = self.loop.call_later(seconds, self.transport.abort)

    def timeout_keep_alive_handler(self) -> None:
        """Uvicorn's timer for idle connections: it does nothing, because `_timer` replaces it."""

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def shutdown(self) -> None:
        """The server stops: it waits for its own work, but not for a client, nor for an answer that goes on and on."""
        if self._timer or self.cycle.more_body or self.cycle.response_started:
            self.transport.abort()
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):  # else an answer has begun or been sent
            headers = SECURITY_HEADERS | {"Content-Type": "application/json", "Connection": "close"}
            answer = h11.Response(status_code=400, reason=b"Bad Request", headers=list(headers.items()))
            line = json.dumps({"error": "this is not a valid HTTP request"}).encode()
            for event in (answer, h11.Data(data=line), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
