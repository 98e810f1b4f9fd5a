"""Every error of this package that a user can meet.

PrimeError
├── ConfigError          a configuration file or saved context is wrong
├── NotAuthenticated     a key is needed and none is saved
├── ProjectError         an OpenEnv project, its Dockerfile or its manifest is wrong
├── PackagingError       an environment cannot be packed, or a package is not safe to unpack
├── InstallError         an environment cannot be installed
│   └── InstallConflict  not beside what is installed there, but into another virtual environment
├── LocalHubError        the machine's own Hub did not start or stop
└── APIError             a Hub answered with an error, or not at all
    ├── Unauthorized     401
    ├── Forbidden        403
    ├── NotFound         404
    ├── Conflict         409
    ├── PayloadTooLarge  413
    ├── StorageFull      507
    ├── Unreachable      no connection
    └── APITimeout       no answer in time
"""

from __future__ import annotations


class PrimeError(Exception):
    """One sentence on what is wrong and where (`str(error)`), and in `hint` what to run next, when there is such a
    thing.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def sentence(self) -> str:
        """The message as a person reads it: without what is in `str(error)` for programs only."""
        return self.message

    def __str__(self) -> str:
        return self.message


class ConfigError(PrimeError):
    """A configuration file or a saved context cannot be read, written or found."""


class NotAuthenticated(PrimeError):
    """A key is needed and none is saved for this Hub."""

    def __init__(self, message: str = "Not authenticated. Run 'prime login' first.", hint: str | None = None) -> None:
        super().__init__(message, hint)


class ProjectError(PrimeError, RuntimeError):
    """An OpenEnv project, its Dockerfile or its build manifest is wrong.

    Also a RuntimeError, because that is what published environments catch for a missing manifest.
    """


class PackagingError(PrimeError):
    """An environment folder cannot be packed, or a package is not safe to unpack."""


class InstallError(PrimeError):
    """An environment cannot be installed; the interpreter's packages are as they were."""


class InstallConflict(InstallError):
    """An environment does not go together with what is installed in the interpreter; into another virtual environment it
    may go. `environments`: what was to be installed, name → version.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.environments: dict[str, str] = {}


class LocalHubError(PrimeError):
    """The machine's own Hub did not start, or did not stop."""


class APIError(PrimeError):
    """A Hub answered with an error.

    `status` is the HTTP status (None when there was no answer), `detail` the Hub's own words, `code` its word for
    programs, where it has one.
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        detail: str | None = None,
        hint: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.status = status
        self.detail = detail
        self.code = code

    @property
    def sentence(self) -> str:
        return self.message.removeprefix(f"HTTP {self.status}: ")


class Unauthorized(APIError):
    """The key is unknown to the Hub, or was revoked (401)."""


class Forbidden(APIError):
    """The account may not do this (403)."""


class NotFound(APIError):
    """There is no such thing, or this account may not see it (404)."""


class Conflict(APIError):
    """It exists already, or its state does not allow this (409)."""


class PayloadTooLarge(APIError):
    """The upload is larger than the Hub takes (413)."""


class StorageFull(APIError):
    """The Hub's storage is full (507)."""


class Unreachable(APIError):
    """No connection to the Hub could be made, or it broke."""


class APITimeout(APIError):
    """The Hub did not answer in time."""
