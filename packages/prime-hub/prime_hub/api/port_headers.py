"""What passes between a client, through the Hub, and a server in a sandbox, which may be a stranger's.

The server must not get what the client sends to the Hub itself, and its answers, which browsers see on the Hub's own
origin, must not touch the Hub's pages: they are documents of an origin of their own, without cookies.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urljoin, urlsplit

Headers = list[tuple[bytes, bytes]]

_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
_NOT_FOR_SERVERS = frozenset({b"host", b"authorization", b"proxy-authorization", b"cookie", b"expect"})
_OF_THE_HANDSHAKE = b"sec-websocket-"
# They would be carried out for the Hub's whole origin, or outlive the page.
_NOT_FOR_BROWSERS = frozenset(
    {
        *(b"set-cookie", b"set-cookie2", b"set-login", b"clear-site-data", b"strict-transport-security", b"alt-svc"),
        *(b"service-worker-allowed", b"refresh", b"www-authenticate", b"proxy-authenticate", b"accept-ch"),
        *(b"critical-ch", b"nel", b"report-to", b"reporting-endpoints", b"origin-agent-cluster", b"speculation-rules"),
        *(b"public-key-pins", b"expect-ct", b"content-security-policy", b"content-security-policy-report-only"),
        *(b"referrer-policy", b"x-frame-options", b"cross-origin-opener-policy", b"location", b"server", b"date"),
    }
)
POLICY = b"sandbox allow-downloads allow-forms allow-modals allow-popups allow-popups-to-escape-sandbox allow-scripts"
OURS: Headers = [(b"content-security-policy", POLICY), (b"referrer-policy", b"no-referrer")]


class Redirected(Exception):
    """The server answers with an address that is not its own."""


def _connection_names(headers: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    """What a `Connection` header says to be for this hop only."""
    given = b",".join(value for name, value in headers if name.lower() == b"connection")
    return {name.strip().lower() for name in given.split(b",")}


def for_server(headers: Headers, host: str) -> Headers:
    """The headers of a request to the server at `host`."""
    dropped = _HOP_BY_HOP | _NOT_FOR_SERVERS | _connection_names(headers)
    return [(b"host", host.encode()), *((name, value) for name, value in headers if name.lower() not in dropped)]


def for_handshake(headers: Headers) -> list[tuple[str, str]]:
    """Those of a WebSocket's opening, beside what the opening itself needs."""
    dropped = _HOP_BY_HOP | _NOT_FOR_SERVERS | _connection_names(headers) | {b"origin", b"user-agent"}
    return [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in headers
        if name.lower() not in dropped and not name.lower().startswith(_OF_THE_HANDSHAKE)
    ]


def for_client(headers: Headers, asked: str, prefix: str) -> Headers:
    """The headers of an answer. `asked` is the address that the server was asked at, `prefix` the path of the Hub
    under which its clients see it. Raises Redirected.
    """
    dropped = _HOP_BY_HOP | _NOT_FOR_BROWSERS | _connection_names(headers)
    passed = [(name.lower(), value) for name, value in headers if name.lower() not in dropped]
    passed += [(name, value) for name, value in OURS]
    location = next((value for name, value in headers if name.lower() == b"location"), None)
    if location is not None:
        passed.append((b"location", _own(location.decode("latin-1"), asked, prefix).encode("latin-1")))
    return passed


def _own(location: str, asked: str, prefix: str) -> str:
    """An address of the server as its clients see it. Raises Redirected."""
    try:
        # Browsers take a backslash for a slash, and pass over control characters.
        target = urlsplit(urljoin(asked, location.replace("\\", "/").strip()))
        own = target.scheme == "http" and target.netloc == urlsplit(asked).netloc
    except ValueError:
        own = False
    if not own or any(ord(sign) < 0x21 for sign in location.strip()):
        raise Redirected
    path = target.path if target.path.startswith("/") else f"/{target.path}"
    query = f"?{target.query}" if target.query else ""
    fragment = f"#{target.fragment}" if target.fragment else ""
    return f"{prefix}{path}{query}{fragment}"
