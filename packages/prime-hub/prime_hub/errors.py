"""What a request can be refused with.

    HubError
    ├── BadRequest 400   ├── Unauthorized 401   ├── Forbidden 403   ├── NotFound 404
    ├── RequestTimeout 408 ├── Conflict 409   ├── Gone 410           ├── TooLarge 413    ├── Invalid 422
    ├── TooMany 429      ├── BadGateway 502   ├── Unavailable 503   └── StorageFull 507

Services raise these; the web layer turns one into `{"detail": "<one line>"}` or an error page.
"""

from __future__ import annotations


def one_line(text: str) -> str:
    """A text on one line, also where it says again what somebody sent."""
    if text.isprintable():
        return text
    signs = (" " if sign in "\r\n\t" else sign for sign in text)
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in signs)


class HubError(Exception):
    """A request that cannot be served; the message is one sentence for the person who sent it.

    `code` goes into the answer as `error`, for the clients that branch on it.
    """

    status = 500

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        super().__init__(detail)
        self.detail = one_line(detail)
        self.code = code

    def body(self) -> dict[str, str]:
        """The JSON answer."""
        return {"detail": self.detail} if self.code is None else {"error": self.code, "detail": self.detail}


class BadRequest(HubError):
    """The request makes no sense as sent."""

    status = 400


class Unauthorized(HubError):
    """No token, or one that this Hub does not know."""

    status = 401


class Forbidden(HubError):
    """Known, but not allowed."""

    status = 403


class NotFound(HubError):
    """There is no such thing, or none that the caller may know of."""

    status = 404


class RequestTimeout(HubError):
    """A command ran longer than it was given."""

    status = 408


class Conflict(HubError):
    """It exists already, or the thing is in a state that forbids it."""

    status = 409


class Gone(HubError):
    """It existed and has ended."""

    status = 410


class TooLarge(HubError):
    """More bytes than this Hub takes."""

    status = 413


class Invalid(HubError):
    """Well-formed, and wrong."""

    status = 422


class TooMany(HubError):
    """Tried too often; later it may be tried again."""

    status = 429


class BadGateway(HubError):
    """What the Hub asked in turn does not know it."""

    status = 502


class Unavailable(HubError):
    """The runner is starting or down; the same request may work in a moment."""

    status = 503


class StorageFull(HubError):
    """The disk, or the bucket, takes no more."""

    status = 507
