"""`prime images`: build an image from a Dockerfile on the Hub, and list what is there (protocols/hub.md §4)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prime_cli.groups import command_app, examples
from prime_cli.output import Format, out
from prime_core.errors import PrimeError

if TYPE_CHECKING:
    from prime_sandboxes import Image

app = command_app("Build and list the images environments run in.")

# The words for a status (protocols/hub.md §4.4).
LABELS = {
    "PENDING": "Waiting",
    "UPLOADING": "Uploading",
    "BUILDING": "Building",
    "COMPLETED": "Ready",
    "FAILED": "Failed",
    "CANCELLED": "Cancelled",
}


@app.command(
    epilog=examples(
        "prime images push my-env                          # the Dockerfile of this folder",
        "prime images push my-env:v2 -c environments/my_env/proj",
        "prime images push my-env -c proj -f server/Dockerfile --no-cache",
    )
)
def push(
    reference: Annotated[
        str, typer.Argument(metavar="NAME[:TAG]", help="The image's name; the tag is 'latest' if left out.")
    ],
    context: Annotated[Path, typer.Option("--context", "-c", metavar="DIR", help="The folder that is sent.")] = Path(),
    dockerfile: Annotated[
        str, typer.Option("--dockerfile", "-f", metavar="FILE", help="The Dockerfile, seen from the context.")
    ] = "Dockerfile",
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Build anew, even if nothing has changed.")] = False,
) -> None:
    """Build an image on the Hub, wait for it, and print its reference. The build log goes to stderr."""
    from prime_core.connection import connect
    from prime_sandboxes import ImageClient

    name, _, tag = reference.partition(":")
    if not name or "/" in name:
        raise typer.BadParameter(f"'{reference}' is not NAME or NAME:TAG; the owner is your own account")
    if not context.is_dir():
        raise PrimeError(f"There is no folder {context} to build from.", "Name it with --context DIR.")
    with ImageClient(connect(announce=out.note)) as images:
        build = images.build(name, tag or "latest", context, dockerfile, no_cache=no_cache, on_log=out.log)
    if build.status != "COMPLETED":
        raise PrimeError(
            f"Image build did not complete successfully (status={build.status.lower()}).",
            build.error or "The log above says why.",
        )
    out.data(f"Image: {build.image}")


@app.command("list", epilog=examples("prime images list", "prime images list --output json"))
def list_(output: Annotated[Format, typer.Option("--output", "-o", help="How to print it.")] = Format.table) -> None:
    """List your images, and builds that have not become one."""
    from prime_core.connection import connect
    from prime_sandboxes import ImageClient

    with ImageClient(connect(announce=out.note)) as images:
        rows = images.list()
    if output is Format.json:
        out.json([_row(image) for image in rows])
        return
    if not rows:
        out.note("No images or builds found.")
        return
    out.table(
        ["IMAGE", "STATUS", "SIZE", "CREATED"],
        [
            [image.reference, LABELS.get(image.status, image.status), _size(image.size_bytes), image.created_at]
            for image in rows
        ],
    )


def _row(image: Image) -> dict[str, Any]:
    """An image as JSON, under the names of the wire's rows (protocols/hub.md §4.4)."""
    return {
        "id": image.id,
        "imageName": image.image_name,
        "imageTag": image.image_tag,
        "status": image.status,
        "reference": image.reference,
        "digest": image.digest,
        "sizeBytes": image.size_bytes,
        "createdAt": image.created_at,
        "errorMessage": image.error_message,
    }


def _size(count: int | None) -> str | None:
    """Bytes for a person to read, in powers of 1000."""
    if count is None:
        return None
    size, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
