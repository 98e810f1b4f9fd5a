"""`prime env list` and `prime env info`: what the Hub has."""

from __future__ import annotations

from typing import Any

from prime_cli.output import Output
from prime_core.references import Reference


def list_environments(
    out: Output,
    *,
    search: str | None,
    owner: str | None,
    visibility: str | None,
    tags: list[str],
    mine: bool,
    starred: bool,
    sort: str | None,
    order: str,
    limit: int,
    page: int,
    as_json: bool,
) -> None:
    """Print one page of the catalogue, `limit` environments a page, pages counted from 1 (protocols/hub.md §3.5)."""
    from prime_core.api import APIClient
    from prime_core.connection import connect

    connection = connect(require_auth=mine or starred, announce=out.note)
    query: dict[str, Any] = {"limit": limit, "offset": (page - 1) * limit, "search": search, "owner": owner}
    query |= {"visibility": visibility, "tags": tags or None, "sort_by": sort, "sort_order": order}
    query |= {"mine_only": True if mine else None, "starred_only": True if starred else None, "include_teams": True}
    with APIClient(connection.base_url, connection.api_key) as client:
        answer = client.get("/environmentshub/", query)
    found = answer.get("data") or []
    rows = found if isinstance(found, list) else found.get("environments") or []
    total = int(answer.get("total_count") or answer.get("total") or len(rows))
    if as_json:
        out.json({"environments": [_row(row) for row in rows], "total": total, "page": page, "per_page": limit})
        return
    if not rows:
        out.note("No environments found." if page == 1 else f"There is no page {page}; there are {total} environments.")
        return
    shown = [_row(row) for row in rows]
    out.table(
        ["ENVIRONMENT", "VERSION", "VISIBILITY", "STARS", "TAGS", "DESCRIPTION"],
        [
            [
                *(row["environment"], row["version"], row["visibility"], row["stars"]),
                *(", ".join(row["tags"]), row["description"]),
            ]
            for row in shown
        ],
    )
    if page * limit < total:
        out.note(f"Showing page {page} of {-(-total // limit)}. Use --page {page + 1} to see more.")
    else:
        out.note(f"Total: {total} environment{'' if total == 1 else 's'}")


def _row(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "environment": f"{(row.get('owner') or {}).get('name')}/{row.get('name')}",
        "description": row.get("description") or "",
        "visibility": row.get("visibility"),
        "version": row.get("latest_version"),
        "stars": row.get("stars") or 0,
        "updated_at": row.get("updated_at"),
        "tags": row.get("tags") or [],
    }


def show_environment(out: Output, reference: Reference, *, as_json: bool) -> None:
    """Print one version: what it is, where its page is, how it is installed."""
    from prime_core.api import APIClient
    from prime_core.connection import connect

    connection = connect(require_auth=False, announce=out.note)
    with APIClient(connection.base_url, connection.api_key) as client:
        answer = client.get(reference.path)
    detail = answer.get("data", answer)
    metadata = detail.get("metadata") or {}
    owner, name = (detail.get("owner") or {}).get("name") or reference.owner, detail.get("name") or reference.name
    page = detail.get("page_url") or f"{connection.frontend_url}/dashboard/environments/{owner}/{name}"
    if as_json:
        shown = {key: value for key, value in detail.items() if key not in ("readme", "page_url")}
        out.json({**shown, "environment": f"{owner}/{name}", "version": detail.get("semantic_version"), "url": page})
        return
    image, source = detail.get("image") or {}, detail.get("forked_from") or {}
    number = detail.get("semantic_version")
    if detail.get("yanked"):
        number = f"{number} (yanked{': ' + detail['yanked_reason'] if detail.get('yanked_reason') else ''})"
    out.fields(
        {
            "Environment": f"{owner}/{name}",
            "Version": number,
            "Newest": (detail.get("latest_version") or {}).get("semantic_version"),
            "Description": detail.get("description") or metadata.get("description") or None,
            "Visibility": detail.get("visibility"),
            "Stars": detail.get("stars"),
            "Forked from": f"{source['owner']}/{source['name']}@{source['version']}" if source else None,
            "Tags": ", ".join(detail.get("tags") or []) or None,
            "Image": image.get("reference"),
            "Needs": ", ".join(metadata.get("dependencies") or []) or None,
            **(detail.get("urls") or {}),
            "Page": page,
        }
    )
    out.data()
    out.data(f"Install:   prime env install {reference}")
    out.data(f"Evaluate:  prime eval run {name} -m baseline/random -n 5")
