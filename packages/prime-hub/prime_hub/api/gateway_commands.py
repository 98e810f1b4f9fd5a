"""Commands in sandboxes as streams of frames (`prime_hub.frames`), for whoever holds the sandbox's token."""

from __future__ import annotations

from fastapi import APIRouter, Response

from prime_hub.api.inside import PREFIX, SILENCE_SECONDS, InsideDep, checked

router = APIRouter(prefix=PREFIX + "/commands", tags=["gateway"])


@router.post("")
async def start(box: InsideDep) -> Response:
    """Start a command, `{key?, argv, working_dir?, env?, user?, stdin?, pty?, timeout?, linger?}`, and watch it; one of
    the same key is only watched.
    """
    return await box.stream("POST", "commands", body=await box.json(), silence=SILENCE_SECONDS)


@router.get("")
async def list_all(box: InsideDep) -> Response:
    """The sandbox's commands: `{commands: [{key, pid, argv, running, watchers}]}`."""
    return await box.ask("GET", "commands")


@router.get("/{key}")
async def attach(box: InsideDep, key: str) -> Response:
    """Watch a command from now on; for a while after its end, that."""
    return await box.stream("GET", f"commands/{checked(key)}", silence=SILENCE_SECONDS)


@router.delete("/{key}")
async def kill(box: InsideDep, key: str) -> Response:
    """Kill it; it has ended when this answers."""
    return await box.ask("DELETE", f"commands/{checked(key)}", silence=SILENCE_SECONDS)


@router.post("/{key}/stdin")
async def write(box: InsideDep, key: str) -> Response:
    """Input, raw, taken as fast as the command reads it; `eof=1` ends it, `id` makes a repeated one be given once."""
    params = box.params("eof", "id")
    return await box.ask("POST", f"commands/{checked(key)}/stdin", params=params, content=box.body(), silence=None)


@router.post("/{key}/signal")
async def send_signal(box: InsideDep, key: str) -> Response:
    """`{signal: NUMBER}` to it and its process group."""
    params = box.params("id")
    return await box.ask("POST", f"commands/{checked(key)}/signal", params=params, body=await box.json())


@router.post("/{key}/resize")
async def resize(box: InsideDep, key: str) -> Response:
    """`{rows, columns}` of its terminal."""
    return await box.ask("POST", f"commands/{checked(key)}/resize", body=await box.json())
