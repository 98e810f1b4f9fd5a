"""Errors by their official names (protocols/sandboxes.md §1.4).

PrimeError
├── APIError                          the Hub refused, or did not answer
│   ├── UnauthorizedError             401
│   ├── PaymentRequiredError          402
│   ├── APITimeoutError               no answer in time (also by the name TimeoutError)
│   ├── SandboxFileNotFoundError      no such file in the sandbox
│   └── SandboxFileTooLargeError      more bytes than are read at once
├── SandboxNotRunningError            it has ended, or was never there; also a RuntimeError
│   ├── SandboxOOMError               it ran out of memory
│   ├── SandboxTimeoutError           it reached its time limit, or its lease ran out
│   └── SandboxImagePullError         its image cannot be had
├── CommandTimeoutError               a command took too long and was killed; also a RuntimeError
├── UploadTimeoutError                also a RuntimeError
└── DownloadTimeoutError              also a RuntimeError
"""

from __future__ import annotations

from prime_core.errors import APIError, APITimeout, PrimeError, Unauthorized

UnauthorizedError = Unauthorized
APITimeoutError = APITimeout
TimeoutError = APITimeout  # noqa: A001 - the official name

__all__ = [
    "APIError",
    "APITimeoutError",
    "CommandTimeoutError",
    "DownloadTimeoutError",
    "PaymentRequiredError",
    "SandboxFileNotFoundError",
    "SandboxFileTooLargeError",
    "SandboxImagePullError",
    "SandboxNotRunningError",
    "SandboxOOMError",
    "SandboxTimeoutError",
    "TimeoutError",
    "UnauthorizedError",
    "UploadTimeoutError",
]


class PaymentRequiredError(APIError):
    """The account may not spend more (402)."""


class SandboxFileNotFoundError(APIError):
    """There is no such file in the sandbox."""


class SandboxFileTooLargeError(APIError):
    """The file, or the window of it, is larger than is read at once; read it in windows, or download it."""


class SandboxNotRunningError(PrimeError, RuntimeError):
    """The sandbox has ended, or there is none of that id."""

    def __init__(
        self,
        message: str,
        sandbox_id: str = "",
        status: str | None = None,
        error_type: str | None = None,
        command: str | None = None,
    ) -> None:
        super().__init__(message)
        self.sandbox_id = sandbox_id
        self.status = status
        self.error_type = error_type
        self.command = command


class SandboxOOMError(SandboxNotRunningError):
    """The sandbox ran out of memory."""


class SandboxTimeoutError(SandboxNotRunningError):
    """The sandbox reached its time limit, or its lease ran out."""


class SandboxImagePullError(SandboxNotRunningError):
    """The sandbox's image cannot be had."""


class CommandTimeoutError(PrimeError, RuntimeError):
    """A command did not end in the time it was given, and was killed."""


class UploadTimeoutError(PrimeError, RuntimeError):
    """An upload did not end in time."""


class DownloadTimeoutError(PrimeError, RuntimeError):
    """A download did not end in time."""


_BY_TYPE: dict[str, type[SandboxNotRunningError]] = {
    "OOM_KILLED": SandboxOOMError,
    "TIMEOUT": SandboxTimeoutError,
    "IMAGE_PULL_FAILED": SandboxImagePullError,
    "IMAGE_NOT_FOUND": SandboxImagePullError,
}


def not_running(
    sandbox_id: str, status: str | None, error_type: str | None, message: str | None, command: str | None = None
) -> SandboxNotRunningError:
    """The error for a sandbox that has ended, of the kind that its `error_type` says."""
    kind = _BY_TYPE.get(error_type or "", SandboxNotRunningError)
    sentence = message or f"Sandbox {sandbox_id} is not running (status={status or 'unknown'})."
    return kind(sentence, sandbox_id, status, error_type, command)
