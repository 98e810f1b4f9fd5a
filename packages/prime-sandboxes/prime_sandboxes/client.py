"""AsyncSandboxClient: sandboxes of a Hub. The one implementation; `sync` drives it for programs without asyncio.

Here is what is done to sandboxes from outside; what is done inside them is in `commands`, `jobs` and `files`.
"""

from __future__ import annotations

import builtins
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from prime_core.errors import NotFound, Unreachable
from prime_sandboxes.commands import CommandCalls
from prime_sandboxes.exceptions import APIError, BatchStatusUnsupportedError, SandboxNotRunningError, not_running
from prime_sandboxes.files import FileCalls
from prime_sandboxes.gateway import Gateway
from prime_sandboxes.jobs import JobCalls
from prime_sandboxes.leases import LeaseKeeper, Leases
from prime_sandboxes.models import (
    BatchSandboxStatusResponse,
    BulkDeleteSandboxResponse,
    Capacity,
    CreateSandboxRequest,
    EgressPolicyStatus,
    ErrorContext,
    ExposedPort,
    Sandbox,
    SandboxListResponse,
    SandboxStatus,
    SandboxStatusError,
    SandboxStatusItem,
    Usage,
)
from prime_sandboxes.transport import CONTROL_SECONDS, APIClient, Transport

if TYPE_CHECKING:
    from prime_core.connection import Connection

HOLD_SECONDS = 20.0
STATUS_BATCH = 100
WAITING_AT_ONCE = 100
LOG_BYTES = 65536
CONTACT_SECONDS = 30.0
UNWANTED_SECONDS = 5.0
DELETE_SECONDS = 2.0  # for one that does not end by itself when it is told to


class AsyncSandboxClient(CommandCalls, JobCalls, FileCalls):
    """Sandboxes of a Hub, for one event loop. An async context manager; `aclose()` ends connections and renewals.

    `connection` says which Hub and key (a text is a key); without it those of the configuration in force, found out at
    the first call. Every call raises APIError and its kinds, and NotAuthenticated without a key.
    """

    def __init__(
        self,
        connection: Connection | APIClient | str | None = None,
        max_connections: int = 1000,
        *,
        api_key: str | None = None,
    ) -> None:
        self._transport = Transport(connection, api_key, max_connections)
        self._gateway = Gateway(self._transport)
        self._leases: Leases | None = None

    async def create(self, request: CreateSandboxRequest) -> Sandbox:
        """Ask for a sandbox; it may still be starting. Sent again with the same `idempotency_key`, the same one.

        A call that is cancelled leaves none behind, unless the caller has its `idempotency_key` to ask for it again.
        """
        import asyncio

        if request.idempotency_key:
            return await self._create(request)
        making = asyncio.ensure_future(self._create(replace(request, idempotency_key=uuid.uuid4().hex)))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            # The Hub may have heard it already, and nobody else would know what to delete.
            with contextlib.suppress(Exception, asyncio.CancelledError):
                async with asyncio.timeout(UNWANTED_SECONDS):
                    await self.delete((await making).id)
            making.cancel()
            raise

    async def _create(self, request: CreateSandboxRequest) -> Sandbox:
        api = await self._transport.api()
        team = await self._transport.team(request.team_id)
        answer = await api.post("/sandbox", replace(request, team_id=team).to_wire())
        sandbox = Sandbox.from_wire(answer)
        self._gateway.remember(sandbox.id, answer.get("gatewayAuth"))
        return sandbox

    async def get(self, sandbox_id: str, wait: float = 0.0) -> Sandbox:
        """A sandbox; with `wait`, held by the Hub for so many seconds (at most 25) while it is starting.

        Raises NotFound.
        """
        api = await self._transport.api()
        params = {"wait": f"{wait:g}"} if wait > 0 else None
        answer = await api.get(f"/sandbox/{quote(sandbox_id, safe='')}", params, timeout=wait + 30)
        if "id" not in answer:  # an address of the Hub's that is no sandbox's
            raise NotFound(f"There is no sandbox '{sandbox_id}'.", 404)
        return Sandbox.from_wire(answer)

    async def list(
        self,
        team_id: str | None = None,
        status: str | None = None,
        labels: Sequence[str] | None = None,
        page: int = 1,
        per_page: int = 50,
        exclude_terminated: bool | None = None,
        user_id: str | None = None,
    ) -> SandboxListResponse:
        """One page of the sandboxes of a team, of the one in force without `team_id`, newest first; of the account's own with
        `team_id=""` or where none is in force. `user_id`: only those that this member made.
        """
        api = await self._transport.api()
        params: dict[str, Any] = {
            "page": page,
            "per_page": per_page,
            "status": status,
            "labels": [*(labels or [])],
            "team_id": await self._transport.team(team_id),
            "user_id": user_id,
            "is_active": True if exclude_terminated else None,
        }
        answer = await api.get("/sandbox", params)
        found = [Sandbox.from_wire(item) for item in answer.get("sandboxes", [])]
        more = bool(answer.get("hasNext"))
        return SandboxListResponse(found, answer.get("total", len(found)), page, per_page, more)

    async def get_sandbox_statuses(self, sandbox_ids: Sequence[str]) -> BatchSandboxStatusResponse:
        """The status of several sandboxes. Raises BatchStatusUnsupportedError for a Hub that has no such call."""
        api = await self._transport.api()
        wanted = [*dict.fromkeys(sandbox_ids)]
        found = BatchSandboxStatusResponse([], [])
        for start in range(0, len(wanted), STATUS_BATCH):
            body = {"sandbox_ids": wanted[start : start + STATUS_BATCH]}
            try:
                answer = await api.post("/sandbox/status:batchGet", body)
            except APIError as error:
                if error.status in (404, 405):
                    words = "This Hub tells the status of one sandbox at a time; use 'get'."
                    raise BatchStatusUnsupportedError(words, error.status) from None
                raise
            found.statuses += [SandboxStatusItem.from_wire(item) for item in answer.get("statuses", [])]
            found.errors += [SandboxStatusError.from_wire(item) for item in answer.get("errors", [])]
        return found

    async def wait_for_creation(
        self,
        sandbox_id: str,
        max_attempts: int = 60,
        stability_checks: int = 1,
        image_build_timeout_seconds: float = 3000,
    ) -> Sandbox:
        """Return when the sandbox runs. `max_attempts` as the official client counts them: one second for each of the
        first five, two for each one more. Time in which its image is still being built, `image_build_timeout_seconds`
        at most, does not count. `stability_checks` is for callers of the official client: running is running here.

        Raises SandboxNotRunningError and its kinds when it ends instead, or is not running by then.
        """
        import asyncio

        seconds = min(max_attempts, 5) + 2.0 * max(0, max_attempts - 5)
        begun = time.monotonic()
        deadline, building_until = begun + seconds, begun + image_build_timeout_seconds
        while True:
            left = deadline - time.monotonic()
            sandbox = await self.get(sandbox_id, max(0.0, min(HOLD_SECONDS, left)))
            if sandbox.status == SandboxStatus.RUNNING:
                return sandbox
            if not sandbox.starting:
                raise await self._ended(sandbox)
            if sandbox.pending_image_build_id and time.monotonic() < building_until:
                deadline = time.monotonic() + seconds
            elif left <= 0:
                words = f"Sandbox {sandbox_id} was still {sandbox.status} after {seconds:g} seconds."
                if sandbox.pending_reason:
                    words = f"{words} {sandbox.pending_reason}"
                raise SandboxNotRunningError(words, sandbox_id, sandbox.status)
            # Only for a Hub that does not hold the answer.
            await asyncio.sleep(0.05)

    async def bulk_wait_for_creation(
        self, sandbox_ids: Sequence[str], max_attempts: int = 60, image_build_timeout_seconds: float = 3000
    ) -> dict[str, str]:
        """Return when all of them run: id → status. Raises what `wait_for_creation` raises, for the first that fails."""
        import asyncio

        turns = asyncio.Semaphore(WAITING_AT_ONCE)

        async def one(sandbox_id: str) -> tuple[str, str]:
            async with turns:
                sandbox = await self.wait_for_creation(
                    sandbox_id, max_attempts, image_build_timeout_seconds=image_build_timeout_seconds
                )
                return sandbox_id, sandbox.status

        waiting = [asyncio.ensure_future(one(sandbox_id)) for sandbox_id in dict.fromkeys(sandbox_ids)]
        try:
            return dict(await asyncio.gather(*waiting))
        finally:
            for task in waiting:
                task.cancel()

    async def _ended(self, sandbox: Sandbox) -> SandboxNotRunningError:
        context = await self.error_context(sandbox.id)
        message = context.error_message or sandbox.error_message
        return not_running(sandbox.id, sandbox.status, context.error_type or sandbox.error_type, message)

    async def error_context(self, sandbox_id: str) -> ErrorContext:
        """Why a sandbox ended and its last output; empty where the Hub does not know."""
        return ErrorContext.from_wire(await self._gateway.error_context(sandbox_id))

    async def delete(self, sandbox_id: str) -> dict[str, Any]:
        """End a sandbox; nothing of it is left when this returns. Raises NotFound when there is none."""
        self._gateway.forget(sandbox_id)
        return await (await self._transport.api()).delete(f"/sandbox/{sandbox_id}")

    async def bulk_delete(
        self,
        sandbox_ids: Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
        team_id: str | None = None,
        user_id: str | None = None,
        all_users: bool = False,
    ) -> BulkDeleteSandboxResponse:
        """End several sandboxes, by id; or those of the account in the team in force (`team_id` as in `list`) that live and
        have all `labels`. With `all_users` or another's `user_id` those of others, which takes the role admin or owner.
        """
        api = await self._transport.api()
        body = {
            "sandbox_ids": [*sandbox_ids] if sandbox_ids else None,
            "labels": [*labels] if labels else None,
            "team_id": await self._transport.team(team_id),
            "user_id": user_id,
            "all_users": all_users,
        }
        given = {name: value for name, value in body.items() if value}
        seconds = CONTROL_SECONDS + DELETE_SECONDS * len(sandbox_ids or ())
        answer = await api.request("DELETE", "/sandbox", given, timeout=seconds)
        return BulkDeleteSandboxResponse.from_wire(answer)

    async def renew(self, sandbox_id: str, lease_seconds: float) -> str | None:
        """Let the lease run `lease_seconds` from now; until when, as the Hub says it."""
        api = await self._transport.api()
        answer = await api.post(f"/sandbox/{sandbox_id}/lease", {"lease_seconds": lease_seconds})
        return answer.get("expires_at")

    def keep_alive(self, sandbox_id: str, lease_seconds: float) -> LeaseKeeper:
        """Renew the lease at each third of it, in the background, until `.cancel()`, `aclose()` or its end."""
        if self._leases is None:
            self._leases = Leases(self._transport.connect_now, self._transport.agent)
        return self._leases.keep(sandbox_id, lease_seconds)

    def stop_renewals(self) -> None:
        """Renew no lease any more; returns when no renewal is under way."""
        leases, self._leases = self._leases, None
        if leases is not None:
            leases.close()

    async def get_logs(self, sandbox_id: str) -> str:
        """The end of what the start command has printed."""
        return str((await (await self._transport.api()).get(f"/sandbox/{sandbox_id}/logs")).get("logs") or "")

    async def follow_logs(self, sandbox_id: str, lines: int | None = None) -> AsyncIterator[str]:
        """What the start command has printed (the end of it, or only so many of its last `lines`) and what it prints, as
        it comes, until the sandbox has ended. It goes on after a restart of the Hub.
        """
        offset = -LOG_BYTES
        text, offset, complete = await self._log_part(sandbox_id, offset, 0.0)
        if lines is not None:
            text = "".join(text.splitlines(keepends=True)[-lines:]) if lines > 0 else ""
        while True:
            if text:
                yield text
            if complete:
                return
            text, offset, complete = await self._log_part(sandbox_id, offset, HOLD_SECONDS)

    async def _log_part(self, sandbox_id: str, offset: int, wait: float) -> tuple[str, int, bool]:
        import asyncio

        api = await self._transport.api()
        params = {"offset": offset, "wait": f"{wait:g}"}
        lost = 0.0
        while True:
            try:
                answer = await api.get(f"/sandbox/{quote(sandbox_id, safe='')}/logs", params, timeout=wait + 30)
                break
            except Unreachable:
                lost = lost or time.monotonic()
                if not wait or time.monotonic() - lost > CONTACT_SECONDS:
                    raise
                await asyncio.sleep(0.5)
        if "offset" not in answer:
            raise APIError("This Hub tells logs only as a whole, so they cannot be followed; it needs a newer one.")
        return str(answer.get("logs") or ""), int(answer["offset"]), bool(answer.get("complete"))

    async def expose(self, sandbox_id: str, port: int, name: str | None = None, protocol: str = "HTTP") -> ExposedPort:
        """Make a port of the sandbox reachable; `protocol` is HTTP or TCP."""
        api = await self._transport.api()
        body = {"port": port, "name": name, "protocol": protocol}
        return ExposedPort.from_wire(await api.post(f"/sandbox/{sandbox_id}/expose", body))

    async def unexpose(self, sandbox_id: str, exposure_id: str) -> None:
        """Take a port off the list."""
        await (await self._transport.api()).delete(f"/sandbox/{sandbox_id}/expose/{exposure_id}")

    async def list_exposed_ports(self, sandbox_id: str) -> builtins.list[ExposedPort]:
        """The ports of a sandbox that are open."""
        answer = await (await self._transport.api()).get(f"/sandbox/{sandbox_id}/expose")
        return [ExposedPort.from_wire(item) for item in answer.get("exposures", [])]

    async def list_all_exposed_ports(self) -> builtins.list[ExposedPort]:
        """The open ports of all sandboxes of the account and its teams."""
        answer = await (await self._transport.api()).get("/sandbox/expose/all")
        return [ExposedPort.from_wire(item) for item in answer.get("exposures", [])]

    async def get_network(self, sandbox_id: str) -> EgressPolicyStatus:
        """Where the sandbox may connect to."""
        api = await self._transport.api()
        return EgressPolicyStatus.from_wire(await api.get(f"/sandbox/{sandbox_id}/egress-policy"))

    async def set_network(
        self, sandbox_id: str, *, allow: Sequence[str] | None = None, deny: Sequence[str] | None = None
    ) -> EgressPolicyStatus:
        """Change where the sandbox may connect to, for connections from now on: only to `allow` ([] is nowhere), or
        everywhere but to `deny`. Raises ValueError for both at once, APIError where its runtime cannot do it.
        """
        if allow is not None and deny is not None:
            raise ValueError("Give allow or deny, not both.")
        api = await self._transport.api()
        body = {
            "allowlist": None if allow is None else [*allow],
            "denylist": None if allow is not None else [*(deny or ())],
        }
        return EgressPolicyStatus.from_wire(await api.put(f"/sandbox/{sandbox_id}/egress-policy", body))

    async def capacity(self) -> Capacity:
        """What the machine of the Hub's sandboxes has, and how much of its memory is free now."""
        return Capacity.from_wire(await (await self._transport.api()).get("/sandbox/capacity"))

    async def usage(self, sandbox_id: str) -> Usage:
        """What a running sandbox uses of its machine now."""
        return Usage.from_wire(await (await self._transport.api()).get(f"/sandbox/{sandbox_id}/usage"))

    async def aclose(self) -> None:
        """End connections and renewals. The client can be used again."""
        import asyncio

        await asyncio.to_thread(self.stop_renewals)
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
