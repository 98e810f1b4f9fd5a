"""Answers that are made while they are sent; for the Hub and the runner alike."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

log = logging.getLogger("prime_hub.streaming")


class Stream(Response):
    """An answer sent in parts, no faster than its client takes them.

    When it is over, also because the client went away or `cut` was set, the source is closed and then `finish` called,
    here and now, so that nothing is left to the garbage collector.
    """

    def __init__(
        self,
        parts: AsyncIterator[bytes],
        *,
        finish: Callable[[], Awaitable[None] | None] | None = None,
        cut: asyncio.Event | None = None,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str = "application/octet-stream",
    ) -> None:
        self._parts = parts
        self._finish = finish
        self._cut = cut
        self._begun = False
        self.status_code = status_code
        self.media_type = media_type
        self.background = None
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send; ends early and quietly when the client goes away."""
        sending = asyncio.ensure_future(self._send(send))
        others = [asyncio.ensure_future(_gone(receive))]
        if self._cut is not None:
            others.append(asyncio.ensure_future(self._cut.wait()))
        try:
            await asyncio.wait({sending, *others}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and (error := sending.exception()) is not None:
                if not self._begun:
                    raise error
                # It is not completed, which is how the client learns of it.
                log.warning("an answer broke off in the middle", exc_info=error)
        finally:
            for task in (sending, *others):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task
            close = getattr(self._parts, "aclose", None)
            if close is not None:
                await close()
            if self._finish is not None:
                finished = self._finish()
                if finished is not None:
                    await finished

    async def _send(self, send: Send) -> None:
        self._begun = True
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for part in self._parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
