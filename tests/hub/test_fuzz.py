"""Nothing that a client sends makes the Hub fail: every route, with what its document allows and with what it does not.

The requests are made by schemathesis from the Hub's own OpenAPI document, and by hypothesis out of requests that work, in
which one thing is odd. They are the same ones every time; PRIME_TEST_FUZZ_EXAMPLES says how many a route gets.
"""

from __future__ import annotations

import json
import os
import re
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.core import NOT_SET
from schemathesis.generation import GenerationMode

from tests.conftest import RunningHub
from tests.hub.asking import BODIES, FORMS, QUERIES, Owned, document
from tests.hub.pushing import make_archive
from tests.hub.world import every_route

EXAMPLES = int(os.environ.get("PRIME_TEST_FUZZ_EXAMPLES", "6"))
FEW = max(1, EXAMPLES // 4)
"""Of routes that take nothing but an address."""

ODD_TEXTS = [
    "",
    " ",
    "\0",
    "a\0b",
    "x" * 5000,
    "é" * 300,
    "../../x",
    "'\"<b>&",
    "\n",
    "\u202e",
    "latest",
    "-1",
    "%",
    "\\",
]
ODD_VALUES = [
    *(None, True, 0, -1, 2**31, 2**63, 2**64, 10**400, 0.5, 1e308, float("nan"), float("inf")),
    *ODD_TEXTS,
    *("\ud800", [], ["\ud800"], [None], {}, {"\ud800": "\ud800"}, {"": ""}, {"a\0": "\0"}, [1] * 2000),
    json.loads("[" * 60 + "]" * 60),
]
# As they stand in an address.
ODD_SEGMENTS = [
    *(
        "%00",
        "a%00b",
        "%ff",
        "%ed%a0%80",
        "%20",
        "%2e%2e",
        "%2f",
        "x" * 3000,
        "%C3%A9",
        "@x",
        "a%0Ab",
        "%25",
        "0",
        "-1",
    ),
    *("latest", "prime", "99999999999999999999", "sha256:0", "x.whl", "%3B", "%22", "1.0", "9" * 5000),
]
ODD_QUERY = [
    *("", "%00", "a%00b", "%ff", "%ed%a0%80", "-1", "0", "0.01", "1e309", "nan", "inf", "9" * 30, "9" * 5000, "null"),
    *("true", "[]", "'", "%25", "_", "%5C", "%22", "x" * 5000),
]
ODD_BODIES = [
    *(b"", b"{", b"null", b"[]", b"0", b'""', b"\xff\xfe", b"\0", b"[" * 100_000, b"9" * 5000, b'{"a":' * 2000, b"NaN"),
    *(b'"\\ud800"', b'{"\\ud800": 1}', b"a=b&c=%00", b"x" * 100_000, '{"é": 1}'.encode("utf-16")),
]
ODD_TYPES = [
    *(
        "text/plain",
        "application/xml",
        "",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/json;",
    ),
    *("multipart/form-data; boundary=x", "application/json; charset=utf-16", "application/octet-stream", "\xff"),
]
FILE_FORM = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhello\r\n--x--\r\n'
STREAMS = re.compile(r"/commands(/\{key\})?$|CommandSession/(Start|Connect)$")
CONNECT = "command_session.CommandSession"
PARAMETER = re.compile(r"\{(\w+)(?::path)?\}")


def routes() -> list[str]:
    """Every route of the app but those for WebSockets."""
    with tempfile.TemporaryDirectory() as folder:
        found = dict.fromkeys(f"{method} {path}" for method, path in every_route(Path(folder)) if method != "WEBSOCKET")
    return list(found)


@dataclass(frozen=True)
class Asked:
    """A request: `path` and `query` as they stand in an address, where what is real is still to be filled in."""

    path: tuple[tuple[str, str], ...]
    """Parameters that are not what they should be."""
    query: str
    content: bytes | None
    kind: str


def leaves(body: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a body."""
    yield place
    items = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    for key, item in items:
        yield from leaves(item, (*place, key))


def with_odd(body: Any, place: tuple[Any, ...], odd: Any) -> Any:
    """The body with something else in one place; `NOT_SET` leaves it out."""
    if not place:
        return odd
    changed = dict(body) if isinstance(body, dict) else list(body)
    if odd is NOT_SET and len(place) == 1:
        del changed[place[0]]
    else:
        changed[place[0]] = with_odd(body[place[0]], place[1:], odd)
    return changed


def in_query(given: dict[str, Any]) -> str:
    """Generated parameters as they stand in an address."""
    pairs = [(key, item) for key, value in given.items() for item in (value if isinstance(value, list) else [value])]
    return "&".join(f"{quote_plus(str(key))}={quote_plus(str(item))}" for key, item in pairs)


def encoded(body: Any) -> bytes:
    """A generated body."""
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def harmless(body: Any) -> Any:
    """A generated body; a command in it is sent and not carried out, since not every runtime has walls."""
    if isinstance(body, dict) and isinstance(body.get("command"), str):
        return {**body, "command": f"exit 7\n{body['command']}"}
    return body


def generated(operation: Any) -> st.SearchStrategy[Any]:
    """Cases of the document, those it allows and those it does not."""
    names = dict.fromkeys(PARAMETER.findall(operation.path), "x")
    modes = [GenerationMode.POSITIVE]
    if operation.body or operation.query:
        modes.append(GenerationMode.NEGATIVE)
    return st.one_of([operation.as_strategy(generation_mode=mode, path_parameters=names) for mode in modes])


@st.composite
def requests(draw: Callable[[st.SearchStrategy[Any]], Any], route: str, cases: Any) -> Asked:
    """A request of a route: as it should be, but for one or two things."""
    method, _, path = route.partition(" ")
    names = PARAMETER.findall(path)
    body, query = BODIES.get(route), dict(QUERIES.get(route, {}))
    kind = "application/json"
    how = draw(st.sampled_from(["good", "path", "query", "body", "body", "body", "raw", "document", "document"]))
    odd_path: dict[str, str] = {}
    if how == "path" and names:
        odd_path[draw(st.sampled_from(names))] = draw(st.sampled_from(ODD_SEGMENTS))
    address = "&".join(f"{key}={quote_plus(value, safe='{}')}" for key, value in query.items())
    if how == "query":
        key = draw(st.sampled_from([*query, "path", "x"]))
        others = [f"{name}={quote_plus(value, safe='{}')}" for name, value in query.items() if name != key]
        address = "&".join([*others, f"{key}={draw(st.sampled_from(ODD_QUERY))}"])
    content = None if body is None else encoded(body)
    if route in FORMS:
        fields = dict(FORMS[route])
        if how != "good":
            fields[draw(st.sampled_from([*fields, "x"]))] = draw(st.sampled_from([*ODD_TEXTS, "y" * 70_000]))
        kind = "application/x-www-form-urlencoded"
        content = "&".join(f"{key}={quote_plus(value, safe='{}')}" for key, value in fields.items()).encode()
        content += b"&proof={proof}"
    elif how == "body" and body is not None:
        odd = draw(st.sampled_from([NOT_SET, *ODD_VALUES]))
        place = draw(st.sampled_from([place for place in leaves(body) if place or odd is not NOT_SET]))
        content = encoded(with_odd(body, place, odd))
    elif how == "document" and cases is not None:
        case = draw(cases)
        address = in_query(case.query or {}) or address
        content = content if case.body is NOT_SET else encoded(harmless(case.body))
    if how == "raw" or (content is None and method in ("PUT", "POST", "PATCH") and how != "good"):
        kind = draw(st.sampled_from([kind, *ODD_TYPES]))
        content = draw(st.sampled_from([content or b"{}", *ODD_BODIES]))
    if "/files/tree" in path and method == "PUT" and draw(st.booleans()):
        content = make_archive({"a/b": b"c"})[: draw(st.sampled_from([20, 60, 10_000]))]
    if path.endswith("/upload") and draw(st.booleans()):
        kind, content = "multipart/form-data; boundary=x", FILE_FORM[: draw(st.integers(0, len(FILE_FORM)))]
    if CONNECT in path and draw(st.booleans()):
        kind = "application/connect+proto" if STREAMS.search(path) else "application/proto"
        message = draw(st.binary(max_size=40))
        whole = struct.pack(">BI", draw(st.sampled_from([0, 1, 2])), len(message)) + message
        content = whole if STREAMS.search(path) and draw(st.booleans()) else message
    return Asked(tuple(odd_path.items()), unhurried(address), content, kind)


def unhurried(address: str) -> str:
    """Without long waits for what does not happen."""
    return re.sub(r"(?<=wait=)(\d[\d.]*)(?=&|$)", lambda found: "0.01" if float(found[1]) <= 60 else found[1], address)


def sent(owned: Owned, route: str, asked: Asked) -> httpx.Response:
    """The answer to a request; of one that has no end, its beginning."""
    method, _, path = route.partition(" ")
    values, odd = owned.path_values(path), dict(asked.path)
    url = PARAMETER.sub(lambda found: odd.get(found[1]) or quote(values[found[1]], safe=""), path)
    query = re.sub(r"\{(\w+)\}", lambda found: quote_plus(owned.path_values(path).get(found[1], "x")), asked.query)
    content = asked.content
    if content is not None:
        filled = re.sub(rb"\{(\w+)\}", lambda found: _of(owned, found[1], asked.kind) or found[0], content)
        content = filled.replace(b"{new}", owned.new().encode()).replace(b"{upper}", owned.new().upper().encode())
    headers = {} if content is None else {b"Content-Type": asked.kind.encode("latin-1")}
    url = f"{url}?{query}" if query else url
    return owned.send(method, url, content=content, headers=headers, endless=bool(STREAMS.search(path)))


def _of(owned: Owned, name: bytes, kind: str) -> bytes | None:
    value = owned.values.get(name.decode())
    if value is None:
        return None
    return quote_plus(value).encode() if "urlencoded" in kind else json.dumps(value).encode()[1:-1]


def complaint(route: str, answer: httpx.Response) -> str | None:
    """What is wrong with an answer, if anything."""
    status = answer.status_code
    if status < 400:
        return None
    method, _, path = route.partition(" ")
    if path.startswith("/ports/") and status == 501:
        return None  # of the server in the sandbox, which has no such method
    if status >= 500 and not (CONNECT in path and status in (501, 503, 504)):  # Connect's own statuses
        return f"answered {status}"
    if method == "HEAD" or "text/html" in answer.headers.get("content-type", ""):
        return None
    if CONNECT in path and status == 415:
        return None if answer.headers.get("accept-post") else "does not say what it takes"
    try:
        body = answer.json()
    except ValueError:
        return "is no JSON"
    if not isinstance(body, dict):
        return "is no object"
    told = body.get("message" if "code" in body else "detail")
    if isinstance(told, list):
        rows = all(isinstance(row, dict) and row.keys() == {"loc", "msg", "type"} and row["msg"] for row in told)
        return None if told and rows and status == 422 else "has no rows"
    if not isinstance(told, str) or "\n" in told or not re.fullmatch(r"\S.*[.)]", told):
        return f"has no sentence: {told!r}"
    return None


@pytest.fixture(scope="module")
def owned(module_hub: RunningHub) -> Owned:
    """Somebody who has one of everything."""
    module_hub.wait_for_runner()
    one = Owned(module_hub)
    one.restore()
    return one


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    """The operations of the Hub's document, by route."""
    schema = schemathesis.openapi.from_dict(document())
    return {found.label: found for found in (one.ok() for one in schema.get_all_operations())}


@pytest.mark.parametrize("route", routes())
def test_every_answer_is_one_of_ours(owned: Owned, described: dict[str, Any], route: str) -> None:
    method, _, path = route.partition(" ")
    about = path + json.dumps([BODIES.get(route), QUERIES.get(route), FORMS.get(route)])
    about += "{session}" if "/dashboard" in path else ""
    asks = route in BODIES or route in QUERIES or route in FORMS or "{" in path.replace("{rest:path}", "")
    changed = True

    @settings(
        max_examples=EXAMPLES if asks else FEW,
        derandomize=True,
        database=None,
        deadline=None,
        # What failed is shown as it was sent; to look for something shorter would change what there is.
        phases=[Phase.explicit, Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(requests(route, generated(described[route]) if route in described else None))
    def ask(asked: Asked) -> None:
        nonlocal changed
        if changed:
            owned.restore(about)
        answer = sent(owned, route, asked)
        changed = answer.status_code < 400 and method not in ("GET", "HEAD")
        if route == "POST /api/v1/sandbox" and answer.is_success:
            owned.client.delete(f"/sandbox/{answer.json()['id']}")
        wrong = complaint(route, answer)
        assert wrong is None, f"{answer.request.method} {answer.request.url} {wrong}: {answer.text[:500]}\n{asked}"[
            :3000
        ]

    ask()


def test_the_document_is_all_asked(described: dict[str, Any]) -> None:
    assert set(described) <= set(routes()), "each operation is a route of the table"
    for table in (BODIES, QUERIES, FORMS):
        assert set(table) <= set(routes()), set(table) - set(routes())
