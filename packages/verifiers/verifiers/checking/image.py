"""The image and its server: built, healthy, reachable, and able to begin an episode."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from prime_core.checks.report import Verdict, passed, skipped
from verifiers.checking.case import Blocked, Case

SEED = 1


async def image_not_built(case: Case) -> Verdict:
    await case.source()
    manifest = case.target.manifest
    if not case.starts_servers or manifest is None:
        return skipped("The server was started by somebody else.")
    return passed(image=manifest.image, image_digest=manifest.image_digest)


async def server_not_healthy(case: Case) -> Verdict:
    started = await case.server()
    return passed(startup_seconds=round(started.seconds, 3)) if case.starts_servers else passed()


async def port_mismatch(case: Case) -> Verdict:
    return await _listening(case)


async def loopback_only(case: Case) -> Verdict:
    return await _listening(case)


async def _listening(case: Case) -> Verdict:
    """A server that listens elsewhere is blamed when it is started; here is what remains."""
    started = await case.server()
    if not case.starts_servers:
        return skipped("The server was started by somebody else, so where it listens cannot be seen.")
    if not await started.running.listening():
        raise Blocked("The runtime does not tell where the server listens.")
    return passed()


async def factory_fails(case: Case) -> Verdict:
    async with case.session(SEED):
        return passed()


CHECKS: dict[str, Callable[[Case], Awaitable[Verdict]]] = {
    "image-not-built": image_not_built,
    "server-not-healthy": server_not_healthy,
    "port-mismatch": port_mismatch,
    "loopback-only": loopback_only,
    "factory-fails": factory_fails,
}
