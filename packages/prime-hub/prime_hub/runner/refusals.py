"""How the runner refuses: an exception becomes a status and `{"error": WORD, "detail": SENTENCE}`.

400 bad_request, 404 sandbox_not_found | build_not_found | image_not_found | file_not_found | command_not_found, 408
command_timeout, 409 not_now | image_in_use | too_many, 410 sandbox_terminated, 413 too_large, 422 exec_failed | refused
for what the sandbox, the runtime or the system refuses, 500 failed, 507 disk.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from prime_hub.runner.builds import UnknownBuild
from prime_hub.runner.fields import BadRequest
from prime_hub.runner.held_commands import SandboxEnded, TooMany, UnknownCommand
from prime_hub.runner.runtimes.base import ExecError, FileMissing, ImageInUse, ImageMissing, RunnerError
from prime_hub.runner.supervisor import EndedSandbox, UnknownSandbox


class TooLarge(Exception):
    """More bytes than are taken at once."""


_KINDS: dict[Any, tuple[int, str]] = {
    BadRequest: (400, "bad_request"),
    ClientDisconnect: (400, "cut_off"),
    UnknownSandbox: (404, "sandbox_not_found"),
    UnknownBuild: (404, "build_not_found"),
    UnknownCommand: (404, "command_not_found"),
    ImageMissing: (404, "image_not_found"),
    FileMissing: (404, "file_not_found"),
    ImageInUse: (409, "image_in_use"),
    TooMany: (409, "too_many"),
    EndedSandbox: (410, "sandbox_terminated"),
    SandboxEnded: (410, "sandbox_terminated"),
    TooLarge: (413, "too_large"),
    ExecError: (422, "exec_failed"),
    RunnerError: (409, "not_now"),
}

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_ASKED_WRONGLY = frozenset(
    {errno.E2BIG, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP}
    | {errno.EACCES, errno.EPERM}
)


def refusal(status: int, error: str, detail: str) -> JSONResponse:
    """The answer for a refusal."""
    return JSONResponse({"error": error, "detail": detail}, status)


def _of_the_system(error: OSError) -> Response:
    # Without the path: it is this machine's, and the one that was asked for is known to who asked.
    why = error.strerror or type(error).__name__
    if error.errno in _DISK_FULL:
        return refusal(507, "disk", f"The sandbox's machine has no space left for it ({why}); free some, try again.")
    if error.errno in _ASKED_WRONGLY:
        return refusal(422, "refused", f"The sandbox's machine refused it: {why}.")
    return refusal(500, "failed", f"The sandbox's machine failed on it: {why}.")


async def _on_error(request: Request, error: Exception) -> Response:
    if isinstance(error, OSError):
        return _of_the_system(error)
    status, word = next(found for kind in type(error).__mro__ if (found := _KINDS.get(kind)))
    return refusal(status, word, str(error))


def handlers() -> dict[Any, Callable[[Request, Exception], Awaitable[Response]]]:
    """For the application."""
    return dict.fromkeys([*_KINDS, OSError], _on_error)
