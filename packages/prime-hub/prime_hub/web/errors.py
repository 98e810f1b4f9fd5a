"""Every failure becomes `{"detail": "<one line>"}` on the API and a page elsewhere."""

from __future__ import annotations

import logging
import re
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from sqlalchemy.exc import DBAPIError
from starlette.datastructures import URL
from starlette.exceptions import HTTPException
from starlette.routing import Match

from prime_hub.errors import HubError, StorageFull, one_line
from prime_hub.operations.request_ids import HEADER, current
from prime_hub.services.blobs import storage_full
from prime_hub.web.forms import StaleForm
from prime_hub.web.middleware import shown_path
from prime_hub.web.visitors import SignInFirst, seen, sign_in_page

log = logging.getLogger("prime_hub")

# Installers send a token as the password of Basic, and ask for another one where they are told so.
_FOR_INSTALLERS = re.compile(r"/[^/]+/simple(/|$)|/api/v1/files/")

# The framework's own words for JSON that is none, is too deep, or has a number of thousands of digits.
_UNREADABLE = "There was an error parsing the body"

FULL = (
    "The Hub's storage is full and the request was not carried out. Free some space on the Hub's disk and run the "
    "command again."
)


def install_error_handlers(app: FastAPI) -> None:
    """Register the handlers on `app`."""

    @app.exception_handler(SignInFirst)
    async def sign_in(request: Request, error: SignInFirst) -> Response:
        if request.method in ("GET", "HEAD"):
            return RedirectResponse(sign_in_page(request.url), status_code=303)
        page = page_of(request)
        sentence = "You are signed out, so nothing was changed; sign in, and fill in the form again."
        return await answer(request, error.status, error.body(), sentence, way=(sign_in_page(page), "Sign in"))

    @app.exception_handler(StaleForm)
    async def stale(request: Request, error: StaleForm) -> Response:
        way = (shown_address(page_of(request)), "Load the page again")
        return await answer(request, error.status, error.body(), error.detail, way=way)

    @app.exception_handler(HubError)
    async def refused(request: Request, error: HubError) -> Response:
        return await answer(request, error.status, error.body(), error.detail)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        detail = error.detail
        if error.status_code == 404:
            detail = f"There is nothing at {request.url.path} on this Hub."
        elif error.status_code == 405:
            if request.method == "GET" and request.url.path.startswith("/dashboard/"):
                # Where a form that was refused has left the browser; its page is one step above.
                return RedirectResponse(shown_address(page_of(request)), status_code=303)
            detail = f"{request.url.path} does not take {request.method} requests."
        elif detail == _UNREADABLE:
            detail = "The body of the request is not JSON that this Hub can read; send a well-formed object."
        detail = one_line(detail)
        return await answer(request, error.status_code, {"detail": detail}, detail, dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        # Without the values: they may be secrets, and the answer may end up in a log.
        rows = [{"loc": list(row["loc"]), "msg": row["msg"], "type": row["type"]} for row in error.errors()]
        return await answer(request, 422, {"detail": rows}, _which(error))

    @app.exception_handler(DBAPIError)
    async def database(request: Request, error: DBAPIError) -> Response:
        log.error("%s %s: %s", request.method, shown_path(request.url.path), error.orig, exc_info=error)
        if storage_full(error) or "disk is full" in str(error.orig) or "disk I/O error" in str(error.orig):
            return await answer(request, StorageFull.status, {"detail": FULL}, FULL)
        return await _failed(request)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        log.error("%s %s failed", request.method, shown_path(request.url.path), exc_info=error)
        return await _failed(request)


async def _failed(request: Request) -> Response:
    detail = f"The Hub failed on this request ({current()}); its log says why ('prime hub logs')."
    return await answer(request, 500, {"detail": detail}, detail, {HEADER: current()})


async def answer(
    request: Request,
    status: int,
    body: object,
    sentence: str,
    headers: dict[str, str] | None = None,
    way: tuple[str, str] | None = None,
) -> Response:
    """JSON for programs; a page for people, who are those that ask for HTML outside the API.

    `way`: an address and its words, for the page to lead on to.
    """
    extra = dict(headers or {})
    if status == 401 and _FOR_INSTALLERS.match(request.url.path):
        extra["WWW-Authenticate"] = 'Basic realm="hub"'
    wants_page = "text/html" in request.headers.get("accept", "")
    if wants_page and not request.url.path.startswith(("/api/", "/gateway/", "/ports/")):
        from prime_hub.web.render import error_page

        visitor = await seen(request)
        # Of what is private and of what is not there alike.
        private = status == 404 and request.method == "GET" and visitor is not None and visitor.account is None
        page = error_page(request, status, sentence, way, sign_in_page(request.url) if private else None)
        page.headers.update(extra)
        return page
    return JSONResponse(body, status_code=status, headers=extra)


def page_of(request: Request) -> URL:
    """The address of the page that a form is on: the form's own, or the one above it."""
    path = request.url.path
    scope = {"type": "http", "method": "GET", "path": path, "path_params": {}, "headers": [], "query_string": b""}
    if not any(route.matches(scope)[0] is Match.FULL for route in request.app.router.routes):
        path = path.rpartition("/")[0] or "/"
    return URL(scope={**request.scope, "path": path, "raw_path": path.encode(), "query_string": b""})


def shown_address(url: URL) -> str:
    """The path of an address, as a link has it."""
    return quote(url.path, safe="/")


def _which(error: RequestValidationError) -> str:
    """Which parts of an address or a form are not valid; values are not repeated."""
    parts = [f"'{row['loc'][-1]}': {row['msg']}" for row in error.errors() if row["loc"][0] in ("query", "path")]
    return f"The address is not valid. {'; '.join(parts)}." if parts else "The address or the form is not valid."
