"""Every failure becomes `{"detail": "<one line>"}` on the API and a page elsewhere."""

from __future__ import annotations

import logging
import re

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException

from prime_hub.errors import HubError, StorageFull, one_line
from prime_hub.services.blobs import storage_full
from prime_hub.web.middleware import shown_path
from prime_hub.web.visitors import SignInFirst, sign_in_page

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
            return RedirectResponse(sign_in_page(request), status_code=303)
        return answer(request, error.status, error.body(), "You are signed out; sign in and send the form again.")

    @app.exception_handler(HubError)
    async def refused(request: Request, error: HubError) -> Response:
        return answer(request, error.status, error.body(), error.detail)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        detail = error.detail
        if error.status_code == 404:
            detail = f"There is nothing at {request.url.path} on this Hub."
        elif error.status_code == 405:
            detail = f"{request.url.path} does not take {request.method} requests."
        elif detail == _UNREADABLE:
            detail = "The body of the request is not JSON that this Hub can read; send a well-formed object."
        detail = one_line(detail)
        return answer(request, error.status_code, {"detail": detail}, detail, dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        # Without the values: they may be secrets, and the answer may end up in a log.
        rows = [{"loc": list(row["loc"]), "msg": row["msg"], "type": row["type"]} for row in error.errors()]
        return answer(request, 422, {"detail": rows}, "The address or the form is not valid.")

    @app.exception_handler(DBAPIError)
    async def database(request: Request, error: DBAPIError) -> Response:
        log.error("%s %s: %s", request.method, shown_path(request.url.path), error.orig, exc_info=error)
        if storage_full(error) or "disk is full" in str(error.orig) or "disk I/O error" in str(error.orig):
            return answer(request, StorageFull.status, {"detail": FULL}, FULL)
        return _failed(request)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        log.error("%s %s failed", request.method, shown_path(request.url.path), exc_info=error)
        return _failed(request)


def _failed(request: Request) -> Response:
    detail = "The Hub failed on this request; its log says why ('prime hub logs')."
    return answer(request, 500, {"detail": detail}, detail)


def answer(
    request: Request, status: int, body: object, sentence: str, headers: dict[str, str] | None = None
) -> Response:
    """JSON for programs; a page for people, who are those that ask for HTML outside the API."""
    extra = dict(headers or {})
    if status == 401 and _FOR_INSTALLERS.match(request.url.path):
        extra["WWW-Authenticate"] = 'Basic realm="hub"'
    wants_page = "text/html" in request.headers.get("accept", "")
    if wants_page and not request.url.path.startswith(("/api/", "/gateway/", "/ports/")):
        from prime_hub.web.render import error_page

        page = error_page(request, status, sentence)
        page.headers.update(extra)
        return page
    return JSONResponse(body, status_code=status, headers=extra)
