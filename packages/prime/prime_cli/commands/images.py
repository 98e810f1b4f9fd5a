"""`prime images`: build an image from a Dockerfile on the Hub; list, publish and delete what is there (protocols/hub.md §4)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prime_cli.asking import confirm
from prime_cli.groups import command_app, examples
from prime_cli.interrupts import saying
from prime_cli.output import Format, out
from prime_cli.sandboxes.shared import TeamOption, age, connected, hinting, size
from prime_core.errors import NotFound, PrimeError

if TYPE_CHECKING:
    from prime_sandboxes import Image, ImageClient

app = command_app("Build, list, publish and delete the images environments run in.")

OutputOption = Annotated[Format, typer.Option("--output", "-o", help="How to print it.")]
ReferenceArg = Annotated[
    str, typer.Argument(metavar="IMAGE", help="NAME, NAME:TAG, or the whole reference as 'list' shows it.")
]
LIST_HINT = "Run 'prime images list' to see your images."

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
        "prime images push my-env --build-arg VERSION=3 --no-wait",
        "prime images push tools --source-image ghcr.io/org/tools:v1   # fetched, not built",
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
    build_arg: Annotated[
        list[str] | None, typer.Option("--build-arg", metavar="KEY=VALUE", help="For an ARG; may be repeated.")
    ] = None,
    source_image: Annotated[
        str | None,
        typer.Option("--source-image", metavar="REFERENCE", help="Fetch this image from its registry; build nothing."),
    ] = None,
    public: Annotated[
        bool | None,
        typer.Option("--public/--private", help="Who may run it. [private; an image that is there stays as it is]"),
    ] = None,
    team: TeamOption = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Return when it is built, with its log.")] = True,
    output: OutputOption = Format.table,
) -> None:
    """Build an image on the Hub and print its reference. The build log goes to stderr; Ctrl-C cancels."""
    from prime_sandboxes import ImageClient

    name, _, tag = reference.partition(":")
    if not name or "/" in name:
        raise typer.BadParameter(f"'{reference}' is not NAME or NAME:TAG; the owner is you, or --team")
    arguments = dict(_argument(item) for item in build_arg or [])
    if source_image is None and not context.is_dir():
        raise PrimeError(f"There is no folder {context} to build from.", "Name it with --context DIR.")
    visibility = None if public is None else ("PUBLIC" if public else "PRIVATE")
    cancelled = "the build is cancelled"
    outcome = cancelled if source_image is None else "'prime images list' shows whether it is being fetched"
    with ImageClient(connected(team)) as images, saying(lambda: outcome):
        if source_image is not None:
            build = images.start_copy(source_image, name, tag or "latest", visibility)
            outcome = cancelled
        else:
            build = images.start_build(
                name, tag or "latest", context, dockerfile, no_cache, arguments, visibility=visibility
            )
        if build.cached:
            out.note("Nothing has changed since it was built; --no-cache builds it anew.")
        elif wait and build.id:
            build = images.wait_for_build(build.id, out.log, cancel=True)
    if build.status in ("FAILED", "CANCELLED") or (wait and build.status != "COMPLETED"):
        raise PrimeError(
            f"Image build did not complete successfully (status={build.status.lower()}).",
            build.error or "The log above says why.",
        )
    if output is Format.json:
        out.json(
            {"buildId": build.id, "status": build.status, "reference": build.image, "digest": build.digest}
            | {"cached": build.cached}
        )
        return
    if build.status != "COMPLETED":
        out.note(f"Building. 'prime images logs {build.id} -f' shows how it goes on.")
    out.data(f"Image: {build.image}")


def _argument(item: str) -> tuple[str, str]:
    name, equals, value = item.partition("=")
    if not equals or not name:
        raise typer.BadParameter(f"'{item}' is not KEY=VALUE", param_hint="--build-arg")
    return name, value


@app.command(
    "list",
    epilog=examples("prime images list", "prime images list -q my-env", "prime images list --output json"),
)
def list_(
    search: Annotated[
        str | None, typer.Option("--search", "-q", metavar="WORD", help="Only those with this in their reference.")
    ] = None,
    team: TeamOption = None,
    output: OutputOption = Format.table,
) -> None:
    """List your images, or those of your team. Builds that have not become one are among them."""
    from prime_sandboxes import ImageClient

    with ImageClient(connected(team)) as images:
        rows = images.list(search)
    if output is Format.json:
        out.json([_row(image) for image in rows])
        return
    if not rows:
        out.note("No images or builds found.")
        return
    out.table(
        ["IMAGE", "STATUS", "SIZE", "VISIBILITY", "CREATED"],
        [
            [
                image.reference,
                LABELS.get(image.status, image.status),
                size(image.size_bytes),
                (image.visibility or "").capitalize(),
                f"{age(image.pushed_at or image.created_at)} ago",
            ]
            for image in rows
        ],
    )


@app.command(
    epilog=examples("prime images logs my-env", "prime images logs my-env:v2 -f", "prime images logs BUILD-ID")
)
def logs(
    image: Annotated[
        str, typer.Argument(metavar="IMAGE", help="NAME, NAME:TAG, a whole reference, or the id of a build.")
    ],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the build has ended.")] = False,
    team: TeamOption = None,
) -> None:
    """Print the log of an image's newest build. With -f, exit code 1 when the build fails."""
    from prime_sandboxes import ImageClient

    with ImageClient(connected(team)) as images:
        build_id = _build_id(images, image)
        if not follow:
            sys.stdout.write(images.build_log(build_id))
            sys.stdout.flush()
            return
        build = images.wait_for_build(build_id, _print)
    if build.status != "COMPLETED":
        raise PrimeError(
            f"Image build did not complete successfully (status={build.status.lower()}).", build.error or None
        )


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _build_id(images: ImageClient, word: str) -> str:
    from prime_sandboxes.images import split_reference

    repository, tag = split_reference(word)
    name = repository.rpartition("/")[2]
    for item in images.list(name):
        full = item.reference == f"{repository}:{tag}" or item.reference.endswith(f"/{repository}:{tag}")
        if item.build_id and (full or ("/" not in repository and (item.image_name, item.image_tag) == (name, tag))):
            return item.build_id
    with hinting(LIST_HINT):
        try:
            return images.get_build(word).id or word
        except NotFound:
            raise NotFound(f"There is no image '{word}', and no build of that id.", 404) from None


@app.command(epilog=examples("prime images delete my-env:v1", "prime images delete my-env my-env:v2 --yes"))
def delete(
    image: Annotated[list[str], typer.Argument(metavar="IMAGE…", help="NAME:TAG, or the whole reference.")],
    team: TeamOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete images of yours, or of a team.

    Of a team: those that you gave their name, or as an admin or owner all. One that a published version refers to, or a
    sandbox runs on, stays.
    """
    from prime_sandboxes import ImageClient

    confirm(f"Delete {', '.join(image)}?", yes)
    with ImageClient(connected(team)) as images:
        for reference in image:
            with hinting(LIST_HINT):
                images.delete(reference)
            out.success(f"Deleted {reference}")


@app.command(epilog=examples("prime images publish my-env:v1"))
def publish(image: ReferenceArg, team: TeamOption = None) -> None:
    """Let everybody on the Hub run an image of yours, or of a team."""
    _show(image, team, "PUBLIC", "Everybody on the Hub may run")


@app.command(epilog=examples("prime images unpublish my-env:v1"))
def unpublish(image: ReferenceArg, team: TeamOption = None) -> None:
    """Keep an image to yourself, or to its team, again."""
    _show(image, team, "PRIVATE", "Only its owner may run")


def _show(reference: str, team: str | None, visibility: str, words: str) -> None:
    from prime_sandboxes import ImageClient

    with ImageClient(connected(team)) as images, hinting(LIST_HINT):
        images.set_visibility(reference, visibility)
    out.success(f"{words} {reference}")


@app.command(
    epilog=examples("prime images transfer my-env:v1 my-team", "prime images transfer my-team/my-env:v1 personal")
)
def transfer(
    image: ReferenceArg,
    to: Annotated[str, typer.Argument(metavar="TEAM", help="A team's name or id; 'personal' for yourself.")],
    team: TeamOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Give an image of yours to a team, or take one back. Its reference has the new owner's name from then on."""
    from prime_sandboxes import ImageClient

    confirm(f"Give {image} to {to}?", yes)
    with ImageClient(connected(team)) as images, hinting(LIST_HINT):
        images.transfer(image, None if to.strip().lower() == "personal" else to.strip())
    out.success(f"Transferred {image} to {to}")


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
        "visibility": image.visibility,
        "buildId": image.build_id,
        "errorMessage": image.error_message,
    }
