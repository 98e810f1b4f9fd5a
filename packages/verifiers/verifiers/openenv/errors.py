"""What can go wrong between us and an OpenEnv server, by whose fault it is.

verifiers.errors.Error
├ InfraError
│ └ SandboxError             unscored, retried
│   ├ SessionLost            the episode is gone: server died, no answer in time, a reply that is no reply
│   │ ├ CapacityReached      the server takes no further session; the pool learns from it and asks another server
│   │ ├ NoEpisode            the server has no episode any more: it was over, or the server was started anew
│   │ ├ NoAnswer             no answer in time
│   │ └ UnusableReward       a reward that is no finite number
│   └ ServerStartError       a server that never became healthy or exited on start
└ RolloutError               unscored, not retried: the author's to mend
  ├ ContractMismatch         what the running server says about its actions is not what the manifest says
  └ RendererError            the author's prompt_renderer broke its contract
Exception
└ ActionRejected           the model's turn: the session lives and the text goes back to the model
"""

from __future__ import annotations

from verifiers.errors import RolloutError, SandboxError


class SessionLost(SandboxError):
    """The session is lost, so its episode cannot be scored: infrastructure, retried within bounds."""


class CapacityReached(SessionLost):
    """The server refused one more session. `limit` is the number it says it takes, or None when it does not say."""

    def __init__(self, message: str, limit: int | None = None) -> None:
        super().__init__(message)
        self.limit = limit


class NoEpisode(SessionLost):
    """The server says that there is no episode: it was over, or the server was started anew."""


class NoAnswer(SessionLost):
    """The server did not answer a request within its time limit."""


class UnusableReward(SessionLost):
    """The server sent a reward that is no finite number, so the episode cannot be scored."""


class ServerStartError(SandboxError):
    """A server did not start: one sentence, then the tail of its log."""


class ContractMismatch(RolloutError):
    """The running server's action schema contradicts the manifest's contract."""


class RendererError(RolloutError):
    """The environment's prompt_renderer returned something that is not chat messages, or raised."""


class ActionRejected(Exception):
    """The server refused or failed on one action and its session lives: the model's turn.

    `code` is the server's own: VALIDATION_ERROR, EXECUTION_ERROR, HTTP_422, HTTP_500, …
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code
