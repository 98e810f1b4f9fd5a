"""Errors by their official names (protocols/sandboxes.md §1.4).

PrimeError
├── APIError                          the Hub refused, or did not answer
│   ├── UnauthorizedError             401
│   ├── PaymentRequiredError          402
│   ├── APITimeoutError               no answer in time (also by the name TimeoutError)
│   ├── BatchStatusUnsupportedError   a Hub that tells the status of one sandbox at a time
│   ├── SandboxFileNotFoundError      no such file in the sandbox
│   └── SandboxFileTooLargeError      more bytes than are read at once
├── SandboxNotRunningError            it has ended, or was never there; also a RuntimeError
│   ├── SandboxOOMError               it ran out of memory
│   ├── SandboxTimeoutError           it reached its time limit, or its lease ran out
│   └── SandboxImagePullError         its image cannot be had
├── CommandError                      a command did not start, or contact with it was lost; also a RuntimeError
│   ├── CommandTimeoutError           it took too long and was killed
│   └── CommandFailedError            its exit code was not 0, where that was asked for
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
    "BatchStatusUnsupportedError",
    "CommandError",
    "CommandFailedError",
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


class BatchStatusUnsupportedError(APIError):
    """The Hub tells the status of one sandbox at a time only."""


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


class CommandError(PrimeError, RuntimeError):
    """A command did not start, was ended from outside, or contact with it was lost; `error` is a word for programs."""

    def __init__(self, message: str, error: str = "") -> None:
        super().__init__(message)
        self.error = error


class CommandTimeoutError(CommandError):
    """A command did not end in the time it was given, and was killed."""


class CommandFailedError(CommandError):
    """A command ended with another exit code than 0."""

    def __init__(self, command: str, exit_code: int, stdout: str, stderr: str) -> None:
        last = (stderr.strip() or stdout.strip()).splitlines()[-1:]
        super().__init__(
            f"The command ended with exit code {exit_code}: {command[:200]}" + "".join(f"\n{line}" for line in last)
        )
        self.exit_code = exit_code
        self.stdout = stdout
        self.stderr = stderr


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
