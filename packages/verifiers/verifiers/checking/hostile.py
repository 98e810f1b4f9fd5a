"""Hostile input: what a model, or whoever else reaches the port, may send. The server has to outlive it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator
from random import Random
from typing import Any

from prime_core.checks.report import Verdict, failed, passed, warned
from verifiers.checking.case import Blocked, Case
from verifiers.openenv.errors import ActionRejected, SessionLost
from verifiers.openenv.session import Session
from verifiers.openenv.websocket import Closed, WebSocketException, open_websocket
from verifiers.openenv.wire import JSON

SEED = 1
CUTS = 5
MOST = 40
LARGE = 3  # times as long may the answer to a large action take
DEPTH = 2000
TRIES = 20
ODD = "\U0001f600 \u202e \u0000 ñ \\ud800 '\";--"
CHANGE = (
    "Check what comes in before it is used, and refuse it (422, or VALIDATION_ERROR); never end the process over it."
)


def malformed(action: JSON) -> Iterator[tuple[str, str]]:
    """(what it is, its JSON text) for actions made worse from a valid one. The texts of those that are no JSON are sent
    as they are.
    """
    yield "text that is not JSON", '{"action": '
    for shown, value in (("a list", [1, 2]), ("a string", "up"), ("null", None), ("an empty object", {})):
        yield shown, json.dumps(value)
    yield "an action nested thousands of levels deep", '{"action": ' + "[" * DEPTH + "]" * DEPTH + "}"
    yield "an action with an unknown field", json.dumps({**action, "no_such_field": 1})
    for name in action:
        yield f"an action without {name}", json.dumps({key: value for key, value in action.items() if key != name})
        for shown, value in (
            ("null", None),
            ("a nested list", [[[]]]),
            ("a huge number", 10**30),
            ("an object", {"": 0}),
        ):
            yield f"an action with {shown} as {name}", json.dumps({**action, name: value})
        yield f"an action with odd characters as {name}", json.dumps({**action, name: ODD})


async def _action(case: Case) -> JSON:
    """A valid action; what is wrong without any hostility is told by other ids. Raises: Blocked."""
    moves = await case.moves()
    async with case.session(SEED):
        return moves.choose("random", Random(SEED), ("up", "down"))


async def _outlived(case: Case, text: str, seconds: float) -> tuple[str | None, str]:
    """Send a step whose action is this text: what became of the server (None: it lives and answers), and how it answered."""
    with case.attacked():
        try:
            answer = await _send(case, text, seconds)
            if answer == "no answer":
                await case.give_up()
                return f"there was no answer for {seconds:g} s.", answer
            return await case.lost(), answer
        except Blocked as blocked:  # what was sent before has ended it late
            return str(blocked), ""


async def malformed_action(case: Case) -> Verdict:
    action = await _action(case)
    errors = []
    sent = 0
    for shown, text in list(malformed(action))[:MOST]:
        gone, answer = await _outlived(case, text, case.limits.request)
        sent += 1
        if gone is not None:
            return failed(
                "malformed-action",
                f"After {shown}, {gone}",
                f"{case.where}, step",
                CHANGE,
                malformed_actions_sent=sent,
            )
        if answer.startswith("HTTP 5"):
            errors.append((shown, answer))
    if errors:
        return warned(
            "malformed-action",
            f"{errors[0][0].capitalize()} is answered by {errors[0][1]}, as if the server were broken.",
            f"{case.where}, step",
            CHANGE,
            malformed_actions_sent=sent,
        )
    return passed(malformed_actions_sent=sent)


async def oversize_action(case: Case) -> Verdict:
    action, size = await _action(case), case.limits.oversize
    place: Any = action.get("arguments") if isinstance(action.get("arguments"), dict) else action
    name = next((key for key, value in place.items() if isinstance(value, str)), None)
    place[name or "no_such_field"] = "x" * size
    gone, _ = await _outlived(case, json.dumps(action), LARGE * case.limits.request)
    if gone is None:
        return passed(oversize_bytes=size)
    return failed(
        "oversize-action",
        f"After an action of {size / 2**20:g} MiB, {gone}",
        f"{case.where}, step",
        "Give text a longest length (Field(max_length=…)), and bound what is made of it.",
        oversize_bytes=size,
    )


async def _send(case: Case, text: str, seconds: float) -> str:
    """Send a step whose action is this text, in an episode of its own: "answered", "closed", "no answer", "HTTP 5xx"."""
    async with case.session(SEED) as (session, _):
        if session.dialect == "http":
            return await _post(case, text, seconds)
    started = await case.server()
    with contextlib.suppress(OSError, ValueError, WebSocketException):
        socket = await open_websocket(started.running.url + "/ws", socket_path=started.running.socket_path)
        try:
            reset = json.dumps({"type": "reset", "data": {"seed": SEED}})
            for _ in range(TRIES):
                if b"CAPACITY_REACHED" not in _bytes(await socket.request(reset, case.limits.request)):
                    break
                socket.abort()  # it has not let go of the session before yet
                await asyncio.sleep(0.1)
                socket = await open_websocket(started.running.url + "/ws", socket_path=started.running.socket_path)
            await socket.request(f'{{"type": "step", "data": {text}}}', seconds)
            return "answered"
        except TimeoutError:
            return "no answer"
        except Closed:
            return "closed"
        finally:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(socket.close(), 1.0)
            socket.abort()
    return "closed"


def _bytes(frame: str | bytes) -> bytes:
    return frame.encode() if isinstance(frame, str) else frame


async def _post(case: Case, text: str, seconds: float) -> str:
    import httpx

    started = await case.server()
    try:
        async with asyncio.timeout(seconds):
            response = await started.client.post(
                started.running.url + "/step", content=text.encode(), headers={"Content-Type": "application/json"}
            )
    except TimeoutError:
        return "no answer"
    except httpx.HTTPError:
        return "closed"
    return f"HTTP {response.status_code}" if response.status_code >= 500 else "answered"


async def session_cut(case: Case) -> Verdict:
    action = await _action(case)
    with case.attacked():
        try:
            for number in range(CUTS):
                async with case.session(SEED) as (session, _):
                    await _cut(session, action, number * 0.002)
            gone = await case.lost()
            if gone is None:
                async with case.session(SEED):
                    return passed(sessions_cut=CUTS)
        except Blocked as blocked:
            gone = str(blocked)
    await case.lost()
    return failed(
        "session-cut",
        f"After sessions that were cut off in the middle of a step, {gone}",
        case.where,
        "Let go of a session's environment when its connection ends, whatever it is doing (try … finally).",
        sessions_cut=CUTS,
    )


async def _cut(session: Session, action: JSON, pause: float) -> None:
    """Begin a step and hang up so many seconds later, whether or not the answer is there."""
    step = asyncio.ensure_future(session.step(action))
    await asyncio.sleep(0)
    await asyncio.sleep(pause)
    step.cancel()
    with contextlib.suppress(asyncio.CancelledError, ActionRejected, SessionLost):
        await step
    session.drop()


CHECKS: dict[str, Callable[[Case], Awaitable[Verdict]]] = {
    "malformed-action": malformed_action,
    "oversize-action": oversize_action,
    "session-cut": session_cut,
}
