"""Who may run which image."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from prime_hub.db.models import Account, Environment, Image, ImageTag, Version
from prime_hub.db.session import Database
from prime_hub.errors import Forbidden, Invalid, NotFound
from prime_hub.services.access import belongs_to, known_as, may_see, role_in
from prime_hub.services.references import Reference, parse_reference
from prime_hub.services.runner import Runner
from prime_hub.settings import Settings

FETCHING_KIND = "oci"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Served:
    """An environment whose server an image is."""

    owner: str
    name: str
    public: bool


class ImageAccess:
    """What an account may do with images on this Hub's runtime."""

    def __init__(self, settings: Settings, database: Database, runner: Runner) -> None:
        self._settings = settings
        self._database = database
        self._runner = runner

    @property
    def fetches(self) -> bool:
        """Whether the runtime takes images from registries."""
        return self._runner.images_kind == FETCHING_KIND

    async def named(
        self, account: Account, owner: str | None, name: str, tag: str, team: Account | None = None
    ) -> ImageTag:
        """What a name points at; one without an owner is the `team`'s where it has one of it, else the account's own.
        Raises NotFound, also for a private image of somebody else.
        """
        own = Account.id.in_([account.id, team.id]) if team is not None else Account.id == account.id
        query = select(ImageTag).join(Account, Account.id == ImageTag.owner_id)
        query = query.where(known_as(owner) if owner else own, ImageTag.name == name, ImageTag.tag == tag)
        query = query.where(or_(ImageTag.visibility == "PUBLIC", belongs_to(ImageTag.owner_id, account)))
        async with self._database.read() as session:
            rows = (await session.scalars(query)).unique().all()
        found = min(rows, key=lambda row: team is not None and row.owner_id != team.id, default=None)
        if found is None:
            raise no_image(Reference(owner, name, tag).canonical((team or account).slug))
        return found

    async def served(self, account: Account, owner: Account, digests: Sequence[str]) -> dict[str, list[Served]]:
        """By digest, the environments that `account` may see and whose versions run these images of `owner`'s: whoever may
        see such a version may run its image.
        """
        query = (
            select(Version.image_digest, Account.slug, Environment.name, Environment.visibility)
            .join(Environment, Environment.id == Version.environment_id)
            .join(Account, Account.id == Environment.owner_id)
            .where(Version.image_digest.in_(digests), Version.finalized_at.is_not(None), may_see(account))
            .where((Environment.owner_id == owner.id) | (Version.publisher_id == owner.id))
            .distinct()
            .order_by(Account.slug, Environment.name)
        )
        found: dict[str, list[Served]] = {}
        async with self._database.read() as session:
            for digest, slug, name, visibility in (await session.execute(query)).tuples():
                found.setdefault(str(digest), []).append(Served(slug, name, visibility == "PUBLIC"))
        return found

    async def runnable(
        self, account: Account, docker_image: str, digest: str | None, team: Account | None = None
    ) -> str:
        """The digest to run for a reference, `named` as there. Raises NotFound, Forbidden, Invalid.

        An account may run its own images and its teams', public ones, and those of versions that it may see; other
        people's only where the runtime isolates, and where it does not, an account of elsewhere runs none.
        """
        reference = parse_reference(docker_image)
        digest = digest or reference.digest
        if digest is None:
            tag = await self.named(account, reference.owner, reference.name, reference.tag, team)
            await self._forbid_unsafe(account, docker_image, tag.image)
            self._check_kind(docker_image, [tag.image])
            return tag.image.digest
        with_digest = select(Image).where(Image.digest == digest)
        async with self._database.read() as session:
            found = (await session.scalars(with_digest)).unique().all()
            mine = (await session.scalars(with_digest.where(belongs_to(Image.owner_id, account)))).unique().all()
            image = min(mine, key=lambda image: image.owner_id != account.id, default=None)
            if image is None:
                image = await self._shown(session, account, digest)
            if image is None:
                raise no_image(docker_image)
        await self._forbid_unsafe(account, docker_image, image)
        self._check_kind(docker_image, found)
        return digest

    async def _shown(self, session: AsyncSession, account: Account, digest: str) -> Image | None:
        """That image, of somebody who lets `account` run it: by a public name, or by a version of an environment of theirs."""
        # A version says by itself which image it needs, so it opens no image but those of who pushed it, or owns it.
        published = (
            select(Image)
            .join(Version, Version.image_digest == Image.digest)
            .join(Environment, Environment.id == Version.environment_id)
            .where(Image.digest == digest, Image.owner_id.in_([Environment.owner_id, Version.publisher_id]))
            .where(Version.finalized_at.is_not(None), may_see(account))
        )
        public = (
            select(Image)
            .join(ImageTag, ImageTag.image_id == Image.id)
            .where(Image.digest == digest, ImageTag.visibility == "PUBLIC")
        )
        for query in (published, public):
            if (image := (await session.scalars(query.limit(1))).unique().first()) is not None:
                return image
        return None

    def _check_kind(self, docker_image: str, images: Sequence[Image]) -> None:
        if all(image.kind != self._runner.images_kind for image in images):
            raise NotFound(
                f"Image '{docker_image}' was built for another kind of runtime than this Hub's now "
                f"({self._runner.runtime}); build it again with 'vf-build' or 'prime images push'.",
                code="image_not_found",
            )

    def require_isolated_builds(self, account: Account) -> None:
        """Raises Forbidden for an account of elsewhere where what it builds would run as the Hub's user."""
        if self._runner.isolates_builds or account.local or self._settings.allow_foreign_images:
            return
        raise Forbidden(
            f"This Hub's runtime ({self._runner.runtime}) does not isolate builds: what an image installs runs as the "
            "Hub's own user. So only accounts made on its own machine may build images; its operator can serve the Hub "
            "with a container engine, or allow it with --allow-foreign-images."
        )

    async def _forbid_unsafe(self, account: Account, docker_image: str, image: Image) -> None:
        if self._runner.isolating or self._settings.allow_foreign_images:
            return
        if image.user_id != account.id and not await self._trusted(account, image):
            raise Forbidden(
                f"Image {docker_image} belongs to {image.owner.slug}, and this Hub's runtime ({self._runner.runtime}) does "
                "not isolate, so it runs only your own images. Build your own of it: 'prime env pull' the environment, "
                "'vf-build' it, and 'prime env install' that folder."
            )
        self.require_entry(account)

    async def _trusted(self, account: Account, image: Image) -> bool:
        """Whether it is the account's or a team's, and built by somebody who may have the Hub's user run anything."""
        async with self._database.read() as session:
            role = await role_in(session, account, image.owner_id)
            user = await session.get(Account, image.user_id)
        return role is not None and user is not None and user.local

    def require_entry(self, account: Account) -> None:
        """Raises Forbidden for an account of elsewhere where what it runs in a sandbox would run as the Hub's user."""
        if not (account.local or self._runner.isolating or self._settings.allow_foreign_images):
            raise Forbidden(
                f"This Hub's runtime ({self._runner.runtime}) does not isolate, so only accounts made on its own "
                "machine may run images."
            )

    def require_trust(self, *accounts: Account) -> None:
        """Raises Forbidden unless code of theirs may be built and run here: where nothing isolates, both who has it run and
        whose it is have to be trusted with this machine.
        """
        for account in accounts:
            self.require_isolated_builds(account)
            self.require_entry(account)

    async def fetchable(self, account: Account, docker_image: str) -> bool:
        """Whether a reference that names no image of this Hub may be looked for in a registry.

        Never one that reads as an account's of this Hub: a stranger's image of the same name would be run in its place.
        """
        host, path = registry_of(docker_image)
        if not self.fetches or host is None:
            return False
        first = path.partition("/")[0]
        if "/" in path and not _has_host(docker_image):
            async with self._database.read() as session:
                if (await session.scalars(select(Account.id).where(known_as(first)))).first():
                    return False
        return account.local or host in self._settings.fetch_registries

    def require_fetching(self, account: Account, source: str) -> None:
        """Raises Invalid where images cannot be had from registries, Forbidden for a registry that is not open."""
        if not self.fetches:
            raise Invalid(
                f"This Hub's runtime ({self._runner.runtime}) takes no images from registries; build '{source}' from a "
                "Dockerfile, or serve the Hub with a container engine (see 'prime hub doctor')."
            )
        host, _ = registry_of(source)
        if host is None or (not account.local and host not in self._settings.fetch_registries):
            raise Forbidden(
                f"This Hub fetches no images from '{host or source}' for accounts that were not made on its machine; its "
                "operator can allow that with --fetch-from."
            )


def no_image(reference: str) -> NotFound:
    """The refusal for an image that is not there, or that the caller may not know of."""
    return NotFound(
        f"There is no image '{reference}' on this Hub; build it with 'vf-build' or 'prime images push'.",
        code="image_not_found",
    )


def _has_host(reference: str) -> bool:
    first, slash, _ = reference.partition("/")
    return bool(slash) and ("." in first or ":" in first or first == "localhost")


def registry_of(reference: str) -> tuple[str | None, str]:
    """(host, path) of a registry's reference, Docker Hub's where none is named; (None, …) for one that is this Hub's."""
    if reference.startswith("prime/"):
        return None, reference
    if not _has_host(reference):
        return "docker.io", reference
    host, _, path = reference.partition("/")
    return ("docker.io" if host in ("index.docker.io", "registry-1.docker.io") else host), path


def check_platform(wanted: str | None) -> None:
    """Raises Invalid for an architecture that this machine is not of; `linux/amd64` and the like."""
    if wanted is None:
        return
    own = _ARCHITECTURES.get(platform.machine(), platform.machine())
    if wanted.removeprefix("linux/") != own:
        raise Invalid(
            f"This Hub's machine builds and runs linux/{own} only, not {wanted}; leave --arch out or use {own}."
        )
