"""A standard package index for every owner, and the wheels it points at.

Pages as HTML (PEP 503) and JSON (PEP 691, with what PEP 700 adds), metadata files beside the wheels (PEP 658, 714), and
marks of yanked versions (PEP 592). An environment that the caller may not see is not there, in every answer.
"""

from __future__ import annotations

import hashlib
import json
from functools import partial
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from packaging.utils import canonicalize_name

from prime_hub.api.deps import API, CallerDep, HubDep, unchanged
from prime_hub.api.downloads import blob_response
from prime_hub.errors import NotFound
from prime_hub.services.names import PROJECT
from prime_hub.services.packages import PackageFile
from prime_hub.services.usage import Kind

router = APIRouter(tags=["index"])

JSON_TYPE = "application/vnd.pypi.simple.v1+json"
HTML_TYPE = "application/vnd.pypi.simple.v1+html"
PLAIN_TYPE = "text/html"
MEANT = {
    JSON_TYPE: JSON_TYPE,
    "application/vnd.pypi.simple.latest+json": JSON_TYPE,
    HTML_TYPE: HTML_TYPE,
    "application/vnd.pypi.simple.latest+html": HTML_TYPE,
    PLAIN_TYPE: PLAIN_TYPE,
}
VERSION = "1.1"
# A wheel never changes, but who may have it does: so it is kept by the client, and by nobody on the way.
KEEP = "private, max-age=31536000, immutable"


def _chosen(accept: str) -> str:
    """The form that the client likes best of those there are (PEP 691); without a wish, HTML."""
    ranked: list[tuple[float, int, str]] = []
    for place, part in enumerate(accept.split(",")):
        kind, *options = [piece.strip() for piece in part.split(";")]
        weight = 1.0
        for option in options:
            if option.startswith("q="):
                try:
                    weight = float(option[2:])
                except ValueError:
                    weight = 0.0
        if kind in MEANT and weight > 0:
            ranked.append((-weight, place, MEANT[kind]))
    return min(ranked)[2] if ranked else PLAIN_TYPE


def _answer(request: Request, content: dict[str, Any], title: str, lines: list[str]) -> Response:
    """The page in the form that the client wants; 304 where it has that already."""
    kind = _chosen(request.headers.get("accept", ""))
    if kind == JSON_TYPE:
        body = json.dumps({"meta": {"api-version": VERSION}, **content}).encode()
    else:
        head = f'<meta name="pypi:repository-version" content="{VERSION}"><title>{escape(title)}</title>'
        links = "\n".join(f"{line}<br>" for line in lines)
        body = (
            f"<!DOCTYPE html><html><head>{head}</head><body><h1>{escape(title)}</h1>\n{links}\n</body></html>"
        ).encode()
    etag = f'"{hashlib.sha256(kind.encode() + body).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Vary": "Accept, Authorization", "Cache-Control": "private, no-cache"}
    if unchanged(request, etag):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=kind, headers=headers)


@router.head("/{owner}/simple", include_in_schema=False)
@router.get("/{owner}/simple", include_in_schema=False)
async def to_projects() -> Response:
    """The address has a slash at its end."""
    return RedirectResponse("simple/", 301)


@router.head("/{owner}/simple/{project}", include_in_schema=False)
@router.get("/{owner}/simple/{project}", include_in_schema=False)
async def to_project(project: str) -> Response:
    """The same, and the name as it is normalised."""
    return RedirectResponse(f"{_normalized(project)}/", 301)


@router.head("/{owner}/simple/", include_in_schema=False)
@router.get("/{owner}/simple/")
async def projects(owner: str, request: Request, hub: HubDep, caller: CallerDep) -> Response:
    """The owner's environments by normalised name."""
    names = await hub.packages.projects(caller, owner)
    links = [f'<a href="{name}/">{name}</a>' for name in names]
    return _answer(request, {"projects": [{"name": name} for name in names]}, f"Environments of {owner.lower()}", links)


@router.head("/{owner}/simple/{project}/", include_in_schema=False)
@router.get("/{owner}/simple/{project}/")
async def project_files(owner: str, project: str, request: Request, hub: HubDep, caller: CallerDep) -> Response:
    """The wheels of one environment, oldest first; a name that is not normalised is sent on (PEP 503).

    A name that the owner does not have is 404, or sent on to the index that the operator named.
    """
    name = _normalized(project)
    if name != project:
        return RedirectResponse(f"../{name}/", 301)
    files = await hub.packages.files(caller, owner, name)
    if not files:
        await hub.packages.projects(caller, owner)  # an owner that is not there is told of first
        if hub.settings.upstream_index:
            return RedirectResponse(f"{hub.settings.upstream_index}/{name}/", 302, {"Cache-Control": "no-store"})
        raise NotFound(f"There is no environment '{owner}/{name}' on this Hub.")
    rows = [_row(owner.lower(), file) for file in files]
    content = {"name": name, "versions": list(dict.fromkeys(file.version for file in files)), "files": rows}
    return _answer(request, content, f"Wheels of {name}", [_link(row) for row in rows])


def _normalized(project: str) -> str:
    if not PROJECT.fullmatch(project):
        raise NotFound("There is no environment of that name on this Hub.")
    return str(canonicalize_name(project))


def _row(owner: str, file: PackageFile) -> dict[str, Any]:
    """A file as JSON has it. Its address is a relative one, so that it holds behind any proxy."""
    row: dict[str, Any] = {
        "filename": file.filename,
        "url": f"../../..{API}/files/{owner}/{file.filename}",
        "hashes": {"sha256": file.sha256},
        "size": file.size,
        "upload-time": file.uploaded.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "yanked": file.yanked is not None and (file.yanked or True),
    }
    if file.requires_python:
        row["requires-python"] = file.requires_python
    if file.metadata_sha256:
        row["core-metadata"] = row["data-dist-info-metadata"] = {"sha256": file.metadata_sha256}
    return row


def _link(row: dict[str, Any]) -> str:
    """The same as HTML has it."""
    marks = {}
    if "requires-python" in row:
        marks["data-requires-python"] = row["requires-python"]
    if "core-metadata" in row:
        marks["data-core-metadata"] = marks["data-dist-info-metadata"] = f"sha256={row['core-metadata']['sha256']}"
    if row["yanked"]:
        marks["data-yanked"] = "" if row["yanked"] is True else row["yanked"]
    shown = "".join(f' {name}="{escape(value)}"' for name, value in marks.items())
    address = escape(f"{row['url']}#sha256={row['hashes']['sha256']}")
    return f'<a href="{address}"{shown}>{escape(row["filename"])}</a>'


@router.head(f"{API}/files/{{owner}}/{{filename}}.metadata", include_in_schema=False)
@router.get(f"{API}/files/{{owner}}/{{filename}}.metadata")
async def wheel_metadata(owner: str, filename: str, request: Request, hub: HubDep, caller: CallerDep) -> Response:
    """METADATA of a published wheel, without the wheel (PEP 658)."""
    content, sha256 = await hub.packages.metadata(caller, owner, filename)
    headers = {"ETag": f'"{sha256}"', "Cache-Control": KEEP, "Vary": "Authorization"}
    if unchanged(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type="application/octet-stream", headers=headers)


@router.head(f"{API}/files/{{owner}}/{{filename}}", include_in_schema=False)
@router.get(f"{API}/files/{{owner}}/{{filename}}")
async def wheel_file(owner: str, filename: str, request: Request, hub: HubDep, caller: CallerDep) -> Response:
    """A published wheel."""
    wheel, version_id = await hub.packages.wheel(caller, owner, filename)
    headers = {"ETag": f'"{wheel.sha256}"', "Cache-Control": KEEP, "Vary": "Authorization"}
    if unchanged(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    counted = partial(hub.usage.count, version_id, Kind.INSTALL)
    return await blob_response(
        hub, request, wheel.blob, wheel.filename, "application/octet-stream", wheel.sha256, counted, headers
    )
