"""The images of one runner in a container engine: marked by a tag of its own, found by digest, fetched and pushed.

A tag and not a label makes an image this runner's, because a fetched image cannot be given a label without becoming
another one; the tag also keeps it from being pruned as nobody's. What else is tagged in the engine is not touched.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from typing import Any
from urllib.parse import quote

from prime_hub.runner.building.builder import command, named_port
from prime_hub.runner.runtimes.base import BuildLog, ImageMissing, RunnerError
from prime_hub.runner.runtimes.oci_credentials import Credentials
from prime_hub.runner.runtimes.oci_engine import Engine, EngineError
from prime_hub.runner.runtimes.values import Image, ImageConfig

PULL_SECONDS = 900.0
LISTINGS = 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REFERENCE = re.compile(
    r"(?:(?P<domain>(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|localhost|[A-Za-z0-9-]+(?=:))(?::\d{1,5})?)/)?"
    r"(?P<path>[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
OWN = "localhost/prime-"


class Reference:
    """An image's reference in full: `docker.io/library/python`, a tag and perhaps a digest. Raises RunnerError."""

    def __init__(self, text: str) -> None:
        match = _REFERENCE.fullmatch(text)
        if match is None or len(text) > 512:
            raise RunnerError(f"'{text[:200]}' is not the reference of an image; write it as HOST/NAME:TAG.")
        self.domain = match["domain"] or "docker.io"
        path = match["path"]
        self.repository = f"library/{path}" if self.domain == "docker.io" and "/" not in path else path
        self.tag = match["tag"] or ("" if match["digest"] else "latest")
        self.digest = match["digest"]

    @property
    def name(self) -> str:
        """Without tag and digest."""
        return f"{self.domain}/{self.repository}"

    @property
    def on_loopback(self) -> bool:
        """Whether its registry is one of this very host."""
        return self.domain.partition(":")[0] in ("127.0.0.1", "localhost")

    def __str__(self) -> str:
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag}"


class Images:
    """What an engine has for one runner; `owner` is the runner's id."""

    def __init__(self, engine: Engine, owner: str, credentials: Credentials) -> None:
        self._engine = engine
        self._credentials = credentials
        self.repository = f"{OWN}{owner}/image"
        self.building = f"{OWN}{owner}/build"

    def tag(self, digest: str) -> str:
        """The tag by which an image is this runner's."""
        return f"{self.repository}:{digest.removeprefix('sha256:')}"

    async def get(self, digest: str) -> Image:
        """The image of that digest. Raises ImageMissing."""
        return (await self.described(digest))[0]

    async def described(self, digest: str) -> tuple[Image, dict[str, str]]:
        """The image of that digest and its labels. Raises ImageMissing."""
        if not _DIGEST.fullmatch(digest):
            raise ImageMissing(f"'{digest[:80]}' is no image's digest.")
        found = await self._inspect(self.tag(digest), f"No image {digest} is on this host; build it again.")
        return self._image(found), (found.get("Config") or {}).get("Labels") or {}

    async def all(self) -> list[Image]:
        """All that were built here or fetched."""
        found = await self.listed(self.repository)
        prefix = f"{self.repository}:"
        tags = [tag for item in found for tag in item.get("RepoTags") or [] if tag.startswith(prefix)]
        images = []
        for tag in tags:
            try:
                images.append(self._image(await self._inspect(tag, "")))
            except ImageMissing:  # it was deleted meanwhile
                continue
        return images

    async def listed(self, repository: str) -> list[dict[str, Any]]:
        """The engine's own list of a repository's images.

        Podman fails on it when an image, of anybody's, goes in this moment; it is asked again then.
        """
        params = {"filters": _filters(reference=[repository])}
        for _ in range(LISTINGS):
            try:
                return await self._engine.json("GET", "images/json", params=params)
            except EngineError as error:
                if "image not known" not in str(error):
                    raise
                await asyncio.sleep(0.1)
        return await self._engine.json("GET", "images/json", params=params)

    async def keep(self, reference: str) -> Image:
        """Make an image this runner's, by whatever names it. Raises ImageMissing."""
        found = self._image(await self._inspect(reference, f"There is no image '{reference}' on this host."))
        await self.add_tag(found.digest, self.tag(found.digest))
        return found

    async def add_tag(self, image: str, tag: str) -> None:
        """Give an image another name. Raises EngineError."""
        repository, _, name = tag.rpartition(":")
        await self._engine.json("POST", f"images/{_path(image)}/tag", params={"repo": repository, "tag": name})

    async def remove(self, tag: str) -> bool:
        """Take a name away, and with the last one the image; whether there was such a name."""
        try:
            await self._engine.json("DELETE", f"images/{_path(tag)}", params={"noprune": "false"}, seconds=PULL_SECONDS)
        except EngineError as error:
            if error.status != 404:
                raise
            return False
        return True

    async def fetch(self, text: str) -> Image:
        """The image of a reference: this host's, else pulled. Raises ImageMissing."""
        try:
            reference = Reference(text)
        except RunnerError as error:
            raise ImageMissing(str(error)) from None
        if str(reference).startswith(OWN):
            raise ImageMissing(f"'{text}' names an image by the runner's own mark; start it by its digest.")
        try:
            return await self.keep(str(reference))
        except ImageMissing:
            await self._pull(reference)
        return await self.keep(str(reference))

    async def _pull(self, reference: Reference) -> None:
        params = {"fromImage": reference.name, "tag": reference.digest or reference.tag}
        path, headers = "images/create", await self._authorization(reference)
        if insecure := self._engine.podman and reference.on_loopback:
            # As Docker does by itself, a registry on loopback need not have a certificate; only Podman's own call takes that.
            path, params = "v4.0.0/libpod/images/pull", {"reference": str(reference), "tlsVerify": "false"}
        try:
            async with self._engine.stream(
                "POST", path, params=params, headers=headers, seconds=PULL_SECONDS, versioned=not insecure
            ) as reply:
                async for line in self._engine.lines(reply):
                    if problem := _problem(line):
                        raise EngineError(0, problem)
        except EngineError as error:
            raise ImageMissing(
                f"The image '{reference}' is not on this host and cannot be pulled from {reference.domain}: "
                f"{_short(error)}. Check its name, or log in to the registry with 'docker login {reference.domain}'."
            ) from None

    async def publish(self, digest: str, text: str, log: BuildLog) -> None:
        """Push an image to a registry. Raises ImageMissing, RunnerError."""
        reference = Reference(text)
        if reference.digest or reference.domain == "localhost":
            raise RunnerError(f"'{text}' is not where an image can be pushed to; write it as REGISTRY/NAME:TAG.")
        found = await self.get(digest)
        had = await self._digest_of(str(reference))
        await self.add_tag(found.digest, str(reference))
        try:
            await self._push(reference, log)
        finally:
            if had is None:
                await self.remove(str(reference))
            elif had != found.digest:
                await self.add_tag(had, str(reference))

    async def _digest_of(self, reference: str) -> str | None:
        try:
            return str((await self._inspect(reference, ""))["Id"])
        except ImageMissing:
            return None

    async def _push(self, reference: Reference, log: BuildLog) -> None:
        params = {"tag": reference.tag}
        if self._engine.podman and reference.on_loopback:
            params["tlsVerify"] = "false"
        headers = await self._authorization(reference)
        path = f"images/{_path(reference.name)}/push"
        try:
            async with self._engine.stream("POST", path, params=params, headers=headers, seconds=PULL_SECONDS) as reply:
                async for line in self._engine.lines(reply):
                    if problem := _problem(line):
                        raise EngineError(0, problem)
                    # What is left out is progress bars, many a second.
                    if line.get("status") and not line.get("progressDetail"):
                        log.write(f"{line.get('id', '')} {line['status']}\n".lstrip())
        except EngineError as error:
            raise RunnerError(
                f"The image could not be pushed to {reference}: {_short(error)}. Log in with 'docker login "
                f"{reference.domain}' as the user of this Hub, and see whether you may push there."
            ) from None

    async def _authorization(self, reference: Reference) -> dict[str, str]:
        # Docker refuses a push without the header, also where nobody is logged in.
        known = await self._credentials.of(reference.domain) or {}
        return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(known).encode()).decode()}

    async def _inspect(self, reference: str, sentence: str) -> dict[str, Any]:
        try:
            return await self._engine.json("GET", f"images/{_path(reference)}/json")
        except EngineError as error:
            if error.status not in (400, 404):
                raise
            raise ImageMissing(sentence) from None

    @staticmethod
    def _image(found: dict[str, Any]) -> Image:
        digest = str(found["Id"])
        digest = digest if digest.startswith("sha256:") else f"sha256:{digest}"
        return Image(digest, image_config(found.get("Config") or {}), int(found.get("Size") or 0))


def image_config(config: dict[str, Any]) -> ImageConfig:
    """What an inspected image says about being run."""
    cmd = command(config.get("Entrypoint") or None, config.get("Cmd") or None)
    exposed = sorted(int(port.partition("/")[0]) for port in config.get("ExposedPorts") or {} if _is_tcp(port))
    named = named_port(cmd)
    # The engine keeps no order of EXPOSE lines, so the one that CMD names as well comes first.
    port = named if named in exposed or not exposed else exposed[0]
    env = dict(item.partition("=")[::2] for item in config.get("Env") or [])
    return ImageConfig(cmd=cmd, env=env, workdir=config.get("WorkingDir") or "/", port=port)


def _is_tcp(port: str) -> bool:
    number, _, kind = port.partition("/")
    return number.isdigit() and kind in ("", "tcp")


def _filters(**wanted: list[str]) -> str:
    return json.dumps(wanted)


def _path(reference: str) -> str:
    return quote(reference, safe="/:@")


def _problem(line: dict[str, Any]) -> str | None:
    detail = line.get("errorDetail")
    return (detail.get("message") if isinstance(detail, dict) else None) or line.get("error")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:500].rstrip(".")


async def prune_dangling(engine: Engine, label: str) -> None:
    """Remove images without a name that carry a label of ours: what a build left that was cut short."""
    async with asyncio.timeout(PULL_SECONDS):
        await engine.json(
            "POST", "images/prune", params={"filters": _filters(dangling=["true"], label=[label])}, seconds=None
        )
