"""What the official clients can ask for and this Hub has not: one sentence each, with what to do instead."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import APIRouter

from prime_hub.api.deps import API, AccountDep
from prime_hub.errors import Invalid

router = APIRouter(prefix=f"{API}/sandbox", include_in_schema=False)

CHECKPOINTS = (
    "This Hub keeps no checkpoints of sandboxes; build an image with what is to be kept, or download it from the "
    "sandbox as files."
)
NETWORKS = (
    "This Hub has no networks between sandboxes; expose a port of the one, and let the other reach it at the address "
    "that 'expose' gives."
)
VOLUMES = "This Hub has no volumes; put what the sandbox needs into its image, or upload it."
SSH = "This Hub opens no SSH sessions; run 'prime sandbox shell ID', or run commands through the SDK."

_REFUSED = {
    "/checkpoints:batchGet": CHECKPOINTS,
    "/checkpoints/{rest:path}": CHECKPOINTS,
    "/networks": NETWORKS,
    "/networks/{rest:path}": NETWORKS,
    "/volumes": VOLUMES,
    "/volumes/{rest:path}": VOLUMES,
    "/{sandbox_id}/checkpoints": CHECKPOINTS,
    "/{sandbox_id}/checkpoints/{rest:path}": CHECKPOINTS,
    "/{sandbox_id}/volumes/{rest:path}": VOLUMES,
    "/{sandbox_id}/ssh-session": SSH,
    "/{sandbox_id}/ssh-session/{rest:path}": SSH,
}


def _refusal(sentence: str) -> Callable[..., Awaitable[None]]:
    async def refuse(account: AccountDep) -> None:
        raise Invalid(sentence, code="not_supported")

    return refuse


for _path, _sentence in _REFUSED.items():
    router.add_api_route(_path, _refusal(_sentence), methods=["GET", "POST", "PUT", "DELETE"])
