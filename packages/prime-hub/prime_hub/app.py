"""The Hub as one ASGI app. The command line, uvicorn and the tests all make it here."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI

from prime_hub import __version__
from prime_hub.api import (
    auth_challenge,
    changes,
    checks,
    connect_rpc,
    environments,
    evaluations,
    gateway,
    gateway_commands,
    gateway_files,
    health,
    hosted_evaluations,
    images,
    index,
    managing,
    port_sockets,
    ports,
    publishing,
    sandbox_batches,
    sandbox_network,
    sandbox_unsupported,
    sandboxes,
    secrets,
    system,
    teams,
    tokens,
    usage,
    users,
)
from prime_hub.hub import Hub
from prime_hub.operations.request_ids import RequestIds
from prime_hub.settings import Settings
from prime_hub.web import account as account_pages
from prime_hub.web import (
    check_pages,
    environment_page,
    evaluation_boards,
    evaluation_comparison,
    file_pages,
    home,
    pages,
    rollouts,
    signing,
    version_pages,
)
from prime_hub.web import evaluations as evaluation_pages
from prime_hub.web import images as image_pages
from prime_hub.web import owners as owner_pages
from prime_hub.web import sandboxes as sandbox_pages
from prime_hub.web import secrets as secret_pages
from prime_hub.web import settings as settings_pages
from prime_hub.web import teams as team_pages
from prime_hub.web import tokens as token_pages
from prime_hub.web import usage as usage_pages
from prime_hub.web.errors import install_error_handlers
from prime_hub.web.middleware import AccessLog, BodyLimit, SecurityHeaders


def create_app(settings: Settings) -> FastAPI:
    """The app for one data folder. `app.state.hub` is its Hub, open while the app's lifespan runs."""
    hub = Hub(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        await hub.start()
        try:
            yield
        finally:
            await hub.stop()

    app = FastAPI(
        title="Environments Hub",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
    )
    app.state.hub = hub
    for router in _routers():
        app.include_router(router)
    install_error_handlers(app)
    app.add_middleware(BodyLimit, limit=settings.max_json_bytes, file_limit=settings.max_file_bytes)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(AccessLog, served=hub.metrics.count)
    app.add_middleware(RequestIds)
    return app


def _routers() -> list[APIRouter]:
    """In the order in which addresses are tried: the index's `/{owner}/simple/` after everything with a fixed start."""
    modules = [
        *(
            system,
            health,
            users,
            teams,
            tokens,
            auth_challenge,
            environments,
            usage,
            changes,
            checks,
            managing,
            evaluations,
            hosted_evaluations,
            sandbox_batches,
            sandbox_unsupported,
            sandbox_network,
            sandboxes,
        ),
        *(gateway, gateway_commands, gateway_files, connect_rpc, ports, port_sockets, home, pages),
        *(environment_page, file_pages, version_pages, check_pages, usage_pages),
        *(signing, account_pages, token_pages, team_pages, settings_pages),
        *(evaluation_boards, evaluation_comparison, evaluation_pages, rollouts),
        *(owner_pages, image_pages, sandbox_pages, secret_pages),
    ]
    first = [images.uploads, images.router, publishing.router, pages.static_router, evaluation_pages.changing]
    # After `managing`: an environment may be called "secrets", and `DELETE /OWNER/secrets/star` is about a star.
    last = [secrets.of_environments, secrets.of_accounts, index.router]
    return [*first, *(module.router for module in modules), *last]
