"""The pages of evaluations as an app of their own, over runs in folders."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException

from prime_hub.errors import HubError, one_line
from prime_hub.viewing.folders import FolderShelf
from prime_hub.viewing.guard import FIRST, Guard
from prime_hub.web import evaluation_comparison, evaluations, rollouts
from prime_hub.web.middleware import SecurityHeaders
from prime_hub.web.pages import static_router
from prime_hub.web.render import error_page, prepare

log = logging.getLogger("prime_hub.viewing")


def create_view(places: Sequence[Path], secret: str, hosts: frozenset[str], port: int) -> FastAPI:
    """The app for the runs at and under `places`, for who has the secret."""
    shelf = FolderShelf(places)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        # Before anybody is told the address, so that the first page is as quick as the second.
        prepare("evaluations.html", "evaluation.html", "evaluation_results.html", "evaluation_macros.html", "base.html")
        yield
        shelf.close()

    app = FastAPI(title="Evaluations", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.places = ", ".join(str(place) for place in places)

    @app.get("/")
    async def first() -> Response:
        return RedirectResponse(FIRST)

    for router in (static_router, evaluation_comparison.router, evaluations.router, rollouts.router):
        app.include_router(router)
    # The one thing in which these pages differ from a Hub's: where they read from.
    app.dependency_overrides[evaluations.get_shelf] = lambda: shelf
    _install_error_handlers(app)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(Guard, secret=secret, hosts=hosts, port=port)
    return app


def _install_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(HubError)
    async def refused(request: Request, error: HubError) -> Response:
        return error_page(request, error.status, error.detail)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        there = f"There is nothing at {one_line(request.url.path)[:200]}."
        return error_page(request, error.status_code, there if error.status_code == 404 else one_line(error.detail))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        parts = "; ".join(f"'{row['loc'][-1]}': {row['msg']}" for row in error.errors())
        return error_page(request, 422, f"The address is not valid. {one_line(parts)}.")

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        log.error("%s failed", one_line(request.url.path)[:200], exc_info=error)
        return error_page(request, 500, "This page could not be made; the terminal in which it was started says why.")
