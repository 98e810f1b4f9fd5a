"""An environment's files: folders, files with line numbers and colours, and one file as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from prime_hub.api.deps import API, HubDep
from prime_hub.services.comparing import as_text
from prime_hub.services.sources import File
from prime_hub.streaming import Stream
from prime_hub.web.colouring import COLOURING
from prime_hub.web.environment_frame import FILES, PATH, Frame, Wanted, frame
from prime_hub.web.environment_page import READMES
from prime_hub.web.readme import Place, is_markdown
from prime_hub.web.visitors import VisitorDep

router = APIRouter(include_in_schema=False)

SHOWN_BYTES = 256 * 1024
SHOWN_LINES = 5000
SHOWN_PARTS = 2000

# By their first bytes; what a name says may be wrong.
PICTURES = {
    b"\x89PNG\r\n\x1a\n": "PNG picture",
    b"\xff\xd8\xff": "JPEG picture",
    b"GIF8": "GIF picture",
    b"BM": "BMP picture",
    b"%PDF": "PDF document",
    b"PK\x03\x04": "ZIP archive",
    b"\x1f\x8b": "gzip archive",
}
# No address to guess from, no script, nothing to load: it is kept on disk and not looked at here.
RAW_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"


@router.get(f"{PATH}/files")
async def top_folder(
    owner: str, name: str, request: Request, hub: HubDep, visitor: VisitorDep, version: Wanted = "latest"
) -> Response:
    """The folder of all."""
    return await _page(await frame(request, hub, visitor, owner, name, version, FILES), hub, "", False)


@router.get(f"{PATH}/files/{{inside:path}}")
async def folder_or_file(
    owner: str,
    name: str,
    inside: str,
    request: Request,
    hub: HubDep,
    visitor: VisitorDep,
    version: Wanted = "latest",
    source: Annotated[bool, Query()] = False,
) -> Response:
    """A folder, or a file; `source` shows Markdown as it is written."""
    return await _page(await frame(request, hub, visitor, owner, name, version, FILES), hub, inside, source)


async def _page(framed: Frame, hub: HubDep, inside: str, source: bool) -> Response:
    found = await hub.sources.look(framed.version, inside, SHOWN_BYTES)
    shared = {"crumbs": _crumbs(framed, found.path), "downloads": _downloads(framed), "owner": framed.owner}
    if not isinstance(found, File):
        rows = [
            {"part": part, "href": f"{framed.href}/files/{quote(part.path)}{framed.query}"}
            for part in found.parts[:SHOWN_PARTS]
        ]
        return framed.page("files.html", folder=found, rows=rows, **shared)
    shown = await _shown(framed, hub, found, source)
    raw = f"{framed.href}/raw/{quote(found.path)}{framed.query}"
    here = f"{framed.href}/files/{quote(found.path)}{framed.query}"
    other = f"{here}{'&' if framed.query else '?'}source=true"
    return framed.page("file.html", file=found, shown=shown, raw=raw, here=here, other=other, **shared)


@dataclass(frozen=True)
class Shown:
    """How a file is shown: `readme` is HTML, `lines` are; or `kind` says what it is instead. `cut`: not all of it.

    `markdown`: it can be shown as a page; `as_page`: it is.
    """

    kind: str = ""
    readme: str = ""
    markdown: bool = False
    as_page: bool = False
    lines: tuple[Any, ...] = ()
    cut: bool = False
    empty: bool = False


async def _shown(framed: Frame, hub: HubDep, file: File, source: bool) -> Shown:
    cut = file.size > len(file.data)
    text = _text(file.data, cut)
    if text is None:
        known = (kind for start, kind in PICTURES.items() if file.data.startswith(start))
        webp = "WebP picture" if file.data[:4] == b"RIFF" and file.data[8:12] == b"WEBP" else None
        return Shown(kind=next(known, None) or webp or "binary file")
    if not file.data:
        return Shown(empty=True)
    markdown = is_markdown(file.path)
    if markdown and not source:
        paths = frozenset(await hub.sources.entries(framed.version))
        place = Place(framed.href, framed.query, paths, file.path.rpartition("/")[0])
        html = (await READMES.html(text, place)).strip()
        return Shown(readme=html, markdown=True, as_page=True, cut=cut)
    text = text.replace("\r\n", "\n")
    words = await COLOURING.words(file.path.rpartition("/")[2], text, file.sha256)
    found, left_out = await COLOURING.html(words, SHOWN_LINES)
    return Shown(lines=tuple(found), markdown=markdown, cut=cut or left_out)


def _text(data: bytes, cut: bool) -> str | None:
    """None for what is no text. A character that was cut in two is left out."""
    text = as_text(data)
    for missing in (1, 2, 3) if cut else ():
        text = as_text(data[:-missing]) if text is None else text
    return text


def _crumbs(framed: Frame, path: str) -> list[tuple[str, str]]:
    """The folders on the way to a path, and what is at its end; each with its address."""
    parts = path.split("/") if path else []
    crumbs = [(framed.environment.normalized_name, f"{framed.href}/files{framed.query}")]
    for count, part in enumerate(parts, 1):
        crumbs.append((part, f"{framed.href}/files/{quote('/'.join(parts[:count]))}{framed.query}"))
    return crumbs


def _downloads(framed: Frame) -> list[dict[str, Any]]:
    """What this visitor's browser can have from the API, which knows no cookies: all that is public."""
    environment, version = framed.environment, framed.version
    if environment.visibility != "PUBLIC":
        return []
    package = f"{API}/environmentshub/{framed.owner}/{environment.normalized_name}/@{version.version}/package"
    found = [{"word": "Source archive", "href": quote(package), "size": version.size}]
    if version.wheel is not None:
        file = quote(f"{API}/files/{framed.owner}/{version.wheel.filename}")
        found.append({"word": "Wheel", "href": file, "size": version.wheel.size})
    return found


@router.get(f"{PATH}/raw/{{inside:path}}")
async def raw(
    owner: str, name: str, inside: str, hub: HubDep, visitor: VisitorDep, version: Wanted = "latest"
) -> Response:
    """One file, byte for byte, to be kept."""
    environment = await hub.catalogue.environment(visitor.account, owner, name)
    found = await hub.catalogue.version(environment, version)
    size, parts = await hub.sources.raw(found, inside)
    filename = quote(inside.rpartition("/")[2], safe="")
    headers = {
        "Content-Length": str(size),
        "Content-Disposition": f"attachment; filename*=utf-8''{filename}",
        "Content-Security-Policy": RAW_POLICY,
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-cache",
        "Vary": "Authorization, Cookie",
    }
    return Stream(parts, headers=headers, media_type="text/plain; charset=utf-8")
