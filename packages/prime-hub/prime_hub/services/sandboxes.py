"""Sandboxes as the Hub's records: asked for, started by a runner, looked at, ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from weakref import WeakValueDictionary

from sqlalchemy import func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import defer

from prime_hub.db.models import Account, Member, Sandbox, Token
from prime_hub.db.session import Database
from prime_hub.db.types import new_id, now
from prime_hub.errors import Forbidden, Gone, HubError, Invalid, NotFound
from prime_hub.runner.runtimes.values import Egress, Limits
from prime_hub.services.access import MANAGE, called, may_change, no_team, not_theirs, owner_for, reaches, role_in
from prime_hub.services.given import Giving
from prime_hub.services.images import Images
from prime_hub.services.key_limits import require_room
from prime_hub.services.limits import bounded, lifetime, require_on_machine, require_outward
from prime_hub.services.queue import LIVE, WAITING, Queue
from prime_hub.services.runner import Runner
from prime_hub.services.signals import Signals
from prime_hub.services.spares import Spares
from prime_hub.services.starting import LOG_BYTES, Starter
from prime_hub.settings import Settings

MOST_AT_ONCE = 1000
STATUSES = (*LIVE, "ERROR", "TERMINATED", "TIMEOUT")

log = logging.getLogger("prime_hub.sandboxes")


@dataclass(frozen=True)
class SandboxRequest:
    """What a client asks for. Times in seconds; `timeout_seconds` None is as long as this Hub allows.

    `shown` is what is only recorded and given back (labels, …); it must hold no secret. What `limits` leaves out is as
    much as this Hub allows one sandbox.
    """

    name: str
    docker_image: str
    team: str | None = None
    """The team, by id or name, whose it shall be; None: the account's own."""
    image_digest: str | None = None
    start_command: str | list[str] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    """The variables that the request brings."""
    of_environment: str | None = None
    """`OWNER/NAME` or `NAME`: the environment whose secrets and variables it asks for, too (`services/given.py`)."""
    port: int | None = None
    timeout_seconds: float | None = None
    idle_seconds: float | None = None
    lease_seconds: float | None = None
    idempotency_key: str | None = None
    limits: Limits = field(default_factory=Limits)
    egress: Egress = field(default_factory=Egress)
    shown: dict[str, Any] = field(default_factory=dict)


class Sandboxes:
    """The records of sandboxes, for those who own them: the account itself, or all of a team."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        images: Images,
        signals: Signals,
        runner: Runner,
        queue: Queue,
        starter: Starter,
        spares: Spares,
        giving: Giving,
    ) -> None:
        self._settings = settings
        self._database = database
        self._images = images
        self._signals = signals
        self._runner = runner
        self._queue = queue
        self._starter = starter
        self._spares = spares
        self._giving = giving
        self._keys: WeakValueDictionary[tuple[str, str, str], asyncio.Lock] = WeakValueDictionary()
        self.refresh = starter.refresh

    async def create(self, account: Account, wanted: SandboxRequest, key: Token | None = None) -> Sandbox:
        """Record a sandbox, which starts when its turn comes. The same idempotency key gives the same sandbox.

        Raises NotFound for an image or a team that is not there, Forbidden for one that may not run here and for one beyond what
        the API key was limited to, Invalid for limits beyond what this Hub allows, Conflict for a secret that cannot be
        read any more.
        """
        owner = account
        if wanted.team:
            async with self._database.read() as session:
                owner = await owner_for(session, account, None, wanted.team)
        if not wanted.idempotency_key:
            return await self._create(account, owner, wanted, key)
        # One at a time for each key, so that nothing is begun for those that come second.
        lock = self._keys.setdefault((account.id, owner.id, wanted.idempotency_key), asyncio.Lock())
        async with lock:
            found = await self._by_key(account, owner, wanted.idempotency_key)
            return found or await self._create(account, owner, wanted, key)

    async def _create(self, account: Account, owner: Account, wanted: SandboxRequest, key: Token | None) -> Sandbox:
        limits = bounded(wanted.limits, self._settings)
        seconds = lifetime(wanted.timeout_seconds, self._settings)
        await require_outward(account, wanted.egress, owner.id != account.id)
        await self._runner.client()  # the runtime decides whose images may run
        require_on_machine(wanted.limits, self._runner.info.get("machine") or {})
        digest, build = await self._images.resolve(account, owner, wanted.docker_image, wanted.image_digest)
        given = await self._giving.to_sandbox(account, owner, wanted.of_environment, digest)
        variables = {**(given.values if given else {}), **wanted.environment}
        idle = wanted.idle_seconds or (None if wanted.lease_seconds else self._settings.idle_seconds)
        request = {
            **wanted.shown,
            "start_command": wanted.start_command,
            "port": wanted.port,
            "timeout_seconds": seconds,
            "idle_seconds": idle,
            "lease_seconds": wanted.lease_seconds,
            "limits": asdict(limits),
            "egress": asdict(wanted.egress),
            # Not its values: they are opened again when it starts, so that no secret lies about while it waits.
            "of_environment": {"id": given.environment_id, "name": given.environment} if given else None,
        }
        created = now()
        sandbox = Sandbox(
            id=new_id(),
            owner_id=owner.id,
            user_id=account.id,
            idempotency_key=wanted.idempotency_key,
            name=wanted.name,
            docker_image=wanted.docker_image,
            image_digest=digest or "",
            build_id=build.id if build is not None else None,
            request=request,
            environment=wanted.environment,
            status="PENDING",
            cpus=limits.cpus,
            memory_bytes=limits.memory_bytes,
            host=self._runner.host,
            created_at=created,
            expires_at=created + timedelta(seconds=seconds),
            lease_until=created + timedelta(seconds=wanted.lease_seconds) if wanted.lease_seconds else None,
        )
        spare = await self._spare(sandbox, variables)
        admitted: list[str] = []
        recorded = False
        try:
            async with self._database.write() as session:
                if await role_in(session, account, owner.id) is None:  # they have left the team meanwhile
                    raise no_team(account, wanted.team or "")
                await require_room(session, key, sandbox)
                if spare is not None and await self._queue.has_room(session, sandbox):
                    _given(sandbox, spare)
                session.add(sandbox)
                await session.flush()
                if sandbox.admitted_at is None:
                    admitted = await self._queue.admit(session)
            recorded = True
        except IntegrityError:
            found = await self._by_key(account, owner, wanted.idempotency_key or "")
            if found is None:
                raise
            return found
        finally:
            if spare is not None and recorded and sandbox.id == spare:
                self._spares.given(spare)
            elif spare is not None:
                self._spares.give_back(spare)
        for sandbox_id in admitted:
            self._starter.begin(sandbox_id)
        if digest is None:
            await self._starter.fetched(sandbox.build_id)  # it may be there since the moment before
        else:
            self._spares.asked_for(sandbox, variables)
        return sandbox

    async def _spare(self, sandbox: Sandbox, environment: dict[str, str]) -> str | None:
        if not sandbox.image_digest or not self._spares.count():
            return None
        async with self._database.read() as session:
            if not await self._queue.has_room(session, sandbox):
                return None
        return await self._spares.take(sandbox, environment)

    async def _by_key(self, account: Account, owner: Account, key: str) -> Sandbox | None:
        query = select(Sandbox).where(Sandbox.user_id == account.id, Sandbox.owner_id == owner.id)
        query = query.where(Sandbox.idempotency_key == key)
        async with self._database.read() as session:
            return (await session.scalars(query)).unique().first()

    async def row(self, account: Account, sandbox_id: str) -> Sandbox:
        """The record as it is, of the account's own and its teams'. Raises NotFound, also for somebody else's."""
        async with self._database.read() as session:
            row = await session.get(Sandbox, sandbox_id)
            role = await role_in(session, account, row.owner_id if row is not None else "")
        if row is None or role is None:
            raise NotFound(f"{account.slug} has no sandbox {sandbox_id}.", code="sandbox_not_found")
        return row

    async def changeable(self, account: Account, sandbox_id: str) -> Sandbox:
        """The record, for who made it or manages its team. Raises NotFound, and Forbidden for another member."""
        row = await self.row(account, sandbox_id)
        async with self._database.read() as session:
            if not await may_change(session, account, row.owner_id, row.user_id):
                raise await not_theirs(session, account, f"Sandbox {sandbox_id}", row.owner, row.user_id)
        return row

    async def is_for(self, account_id: str, sandbox_id: str) -> bool:
        """Whether a team's sandbox is, now, for the account of that id: whether it is in the team."""
        role = select(Member.role).join(Sandbox, Sandbox.owner_id == Member.team_id)
        async with self._database.read() as session:
            found = await session.scalar(role.where(Sandbox.id == sandbox_id, Member.account_id == account_id))
        return found is not None

    async def get(self, account: Account, sandbox_id: str, wait: float = 0.0) -> Sandbox:
        """The sandbox as it is now; with `wait`, once it has started or failed, or after that many seconds."""
        row = await self.row(account, sandbox_id)
        if wait > 0 and row.status in WAITING:
            row = await self._signals.until(
                f"sandbox/{sandbox_id}",
                wait,
                lambda: self.row(account, sandbox_id),
                lambda found: found.status not in WAITING,
            )
        if row.status == "RUNNING":
            await self.refresh(sandbox_id)
            row = await self.row(account, sandbox_id)
        await self._queue.explain([row])
        return row

    async def find(
        self,
        account: Account,
        *,
        team: str | None = None,
        user: str | None = None,
        status: str | None = None,
        labels: Sequence[str] = (),
        active: bool | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> tuple[list[Sandbox], int]:
        """The sandboxes of the account, or of a team of its, newest first, and how many there are; with `user` (an id or a
        name) those that this one made. Raises Invalid for a status there is not, NotFound for a team.
        """
        owner = account
        if team:
            async with self._database.read() as session:
                owner = await owner_for(session, account, None, team)
        conditions = [Sandbox.owner_id == owner.id]
        if user:
            named = select(Account.id).where(called(user))
            conditions.append(or_(Sandbox.user_id == user, Sandbox.user_id.in_(named)))
        if status:
            if status.upper() not in STATUSES:
                raise Invalid(f"'{status}' is not a status; use one of {', '.join(STATUSES)}.")
            conditions.append(Sandbox.status == status.upper())
        if active:
            conditions.append(Sandbox.status.in_(LIVE))
        query = select(Sandbox).where(*conditions).order_by(Sandbox.created_at.desc())
        async with self._database.read() as session:
            if labels:
                # Compared here: the two databases ask a JSON column in two ways. Without the logs, 64 KiB each.
                light = query.options(defer(Sandbox.last_log), defer(Sandbox.environment))
                rows = (await session.scalars(light)).unique().all()
                rows = [row for row in rows if set(labels) <= set(row.request.get("labels") or ())]
                found, total = rows[offset : offset + limit], len(rows)
                await self._queue.explain(found)
                return found, total
            total = (await session.scalar(select(func.count(Sandbox.id)).where(*conditions))) or 0
            rows = list((await session.scalars(query.limit(limit).offset(offset))).unique())
        await self._queue.explain(rows)
        return rows, total

    async def delete(self, account: Account, sandbox_id: str) -> None:
        """End it, and return when nothing of it runs any more. Raises NotFound when it has been deleted before, Forbidden
        for another member's of a team that the account does not manage.
        """
        row = await self.row(account, sandbox_id)
        if row.deleted_at is not None:
            raise NotFound(f"Sandbox {sandbox_id} has been deleted already.", code="sandbox_not_found")
        await self.changeable(account, sandbox_id)
        last_log = row.last_log
        placed = row.placed_at is not None or self._starter.is_starting(sandbox_id)
        if placed and last_log is None and row.status in LIVE:
            try:
                last_log = await self._starter.last_log(await self._runner.client(wait=5), sandbox_id)
            except HubError as error:
                log.warning("sandbox %s: %s", sandbox_id, error)
        # First the record: whoever is starting it sees that it is unwanted, and the sweep ends what this call cannot.
        async with self._database.write() as session:
            row = await session.get_one(Sandbox, sandbox_id)
            row.deleted_at, row.environment, row.last_log = now(), None, last_log or row.last_log
            if row.status in LIVE:
                row.status, row.terminated_at, row.updated_at = "TERMINATED", now(), now()
            placed = placed or row.placed_at is not None
        self._signals.send(f"sandbox/{sandbox_id}")
        try:
            if placed:
                client = await self._runner.client(wait=5)
                await client.call("DELETE", f"/sandboxes/{sandbox_id}", timeout=60)
        except (NotFound, Gone):
            pass
        except HubError as error:
            log.warning("sandbox %s is ended later: %s", sandbox_id, error)
        self._starter.turn()

    async def endable(
        self, account: Account, *, labels: Sequence[str], team: str | None, user: str | None, all_users: bool
    ) -> list[str]:
        """The ids of those that live and that a request without ids means: of the account or the team, with these labels,
        and made by the account, unless it names another user or all. Raises NotFound, and Forbidden where it does so
        and does not manage the team.
        """
        if all_users and user:
            raise Invalid("Name either user_id or all_users: the sandboxes of one, or of all.")
        mine = user in (None, account.id, account.slug) and not (all_users and team)
        if team and not mine:
            async with self._database.read() as session:
                owner = await owner_for(session, account, None, team)
                if not reaches(await role_in(session, account, owner.id), MANAGE):
                    raise Forbidden(
                        f"{account.slug} is a member of {owner.slug}; deleting what others made there takes an admin or owner."
                    )
        made_by = account.id if mine else None if all_users else user
        rows, _ = await self.find(account, team=team, user=made_by, labels=labels, active=True, limit=MOST_AT_ONCE)
        return [row.id for row in rows]

    async def logs(self, row: Sandbox) -> str:
        """What it has written, the end of it (64 KiB)."""
        if row.status in LIVE and row.last_log is None:
            try:
                client = await self._runner.client(wait=5)
                found = await client.call("GET", f"/sandboxes/{row.id}/logs", params={"tail": LOG_BYTES})
                return str(found.get("logs") or "")
            except (NotFound, Gone):
                return ""
        return row.last_log or ""

    async def renew(self, account: Account, sandbox_id: str, lease_seconds: float) -> datetime:
        """Give the lease this many seconds from now; when the sandbox ends then. Raises NotFound, Gone."""
        row = await self.row(account, sandbox_id)
        if row.status not in LIVE:
            raise terminated(row)
        if row.placed_at is None:
            async with self._database.write() as session:
                row = await session.get_one(Sandbox, sandbox_id)
                if row.placed_at is None and row.status in LIVE:
                    row.lease_until = until = now() + timedelta(seconds=lease_seconds)
                    return min(until, row.expires_at)
        client = await self._runner.client()
        state = await client.call("POST", f"/sandboxes/{sandbox_id}/lease", {"lease_seconds": lease_seconds})
        return datetime.fromtimestamp(state["expires_at"], UTC)


def terminated(row: Sandbox) -> Gone:
    """The refusal for a sandbox that has ended, with how."""
    how = f": {row.error_message}" if row.error_message else "."
    return Gone(f"Sandbox {row.id} has ended ({row.status}){how}", code="sandbox_terminated")


def _given(sandbox: Sandbox, spare: str) -> None:
    """The record of a sandbox that is a spare, which runs already."""
    moment = now()
    sandbox.id, sandbox.status, sandbox.environment = spare, "RUNNING", None
    sandbox.admitted_at = sandbox.placed_at = sandbox.started_at = sandbox.updated_at = moment
    sandbox.lease_until = None
