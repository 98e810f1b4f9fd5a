"""A standard package index for every owner (PEP 503 as HTML, PEP 691 as JSON), and the wheels it points at."""

from __future__ import annotations

from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response

from prime_hub.api.deps import API, CallerDep, HubDep, base_url, blob_response
from prime_hub.db.models import Version, Wheel
from prime_hub.errors import NotFound

router = APIRouter(tags=["index"])

JSON_TYPE = "application/vnd.pypi.simple.v1+json"
HTML_TYPE = "application/vnd.pypi.simple.v1+html"


def _wants_json(request: Request) -> bool:
    """Whether JSON comes before HTML in what the client accepts (PEP 691); without a wish, HTML."""
    ranked: list[tuple[float, int, str]] = []
    for place, part in enumerate(request.headers.get("accept", "").split(",")):
        kind, *options = [piece.strip() for piece in part.split(";")]
        weight = 1.0
        for option in options:
            if option.startswith("q="):
                try:
                    weight = float(option[2:])
                except ValueError:
                    weight = 0.0
        ranked.append((-weight, place, kind))
    for _, _, kind in sorted(ranked):
        if kind in (JSON_TYPE, "application/vnd.pypi.simple.latest+json"):
            return True
        if kind in (HTML_TYPE, "application/vnd.pypi.simple.latest+html", "text/html"):
            return False
    return False


def _page(title: str, lines: list[str]) -> HTMLResponse:
    head = f'<meta name="pypi:repository-version" content="1.0"><title>{escape(title)}</title>'
    body = "\n".join(f"{line}<br>" for line in lines)
    return HTMLResponse(
        f"<!DOCTYPE html><html><head>{head}</head><body><h1>{escape(title)}</h1>\n{body}\n</body></html>"
    )


@router.get("/{owner}/simple/")
async def projects(owner: str, request: Request, hub: HubDep, caller: CallerDep) -> Response:
    """The owner's environments by normalised name."""
    if await hub.accounts.by_slug(owner) is None:
        raise NotFound(f"There is no account '{owner}' on this Hub.")
    names = sorted(
        {environment.normalized_name for environment, _, _ in await hub.catalogue.wheels(caller, owner, None)}
    )
    if _wants_json(request):
        content: dict[str, Any] = {"meta": {"api-version": "1.0"}, "projects": [{"name": name} for name in names]}
        return JSONResponse(content, media_type=JSON_TYPE, headers={"Vary": "Accept"})
    return _page(f"Environments of {owner}", [f'<a href="{name}/">{name}</a>' for name in names])


@router.get("/{owner}/simple/{project}/")
async def project_files(owner: str, project: str, request: Request, hub: HubDep, caller: CallerDep) -> Response:
    """The wheels of one environment, oldest first."""
    rows = await hub.catalogue.wheels(caller, owner, project)
    if not rows:
        raise NotFound(f"There is no environment '{owner}/{project}' on this Hub.")
    name = rows[0][0].normalized_name
    if _wants_json(request):
        files = [_file(request, owner, version, wheel) for _, version, wheel in rows]
        content = {"meta": {"api-version": "1.0"}, "name": name, "files": files}
        return JSONResponse(content, media_type=JSON_TYPE, headers={"Vary": "Accept"})
    return _page(f"Wheels of {name}", [_link(request, owner, version, wheel) for _, version, wheel in rows])


def _file(request: Request, owner: str, version: Version, wheel: Wheel) -> dict[str, Any]:
    row: dict[str, Any] = {
        "filename": wheel.filename,
        "url": f"{base_url(request)}{API}/files/{owner}/{wheel.filename}",
        "hashes": {"sha256": wheel.sha256},
        "size": wheel.size,
        "yanked": False,
    }
    requires = version.details.get("python_requires")
    if isinstance(requires, str) and requires:
        row["requires-python"] = requires
    return row


def _link(request: Request, owner: str, version: Version, wheel: Wheel) -> str:
    row = _file(request, owner, version, wheel)
    requires = f' data-requires-python="{escape(row["requires-python"])}"' if "requires-python" in row else ""
    return f'<a href="{escape(row["url"])}#sha256={wheel.sha256}"{requires}>{escape(wheel.filename)}</a>'


@router.api_route(f"{API}/files/{{owner}}/{{filename}}", methods=["GET", "HEAD"], tags=["environments"])
async def wheel_file(owner: str, filename: str, hub: HubDep, caller: CallerDep) -> FileResponse:
    """A published wheel."""
    wheel = await hub.catalogue.wheel_file(caller, owner, filename)
    return await blob_response(hub, wheel.blob, wheel.filename, "application/octet-stream", wheel.sha256)
