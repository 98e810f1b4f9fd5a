"""Every way a rollout can end badly.

    Error
    ├ ModelError                   the endpoint failed: nothing can be said of the model        → unscored
    │ ├ ModelAuthError             the key was refused: the same for every rollout              → the run ends early
    │ ├ RateLimitError             too many requests, also after waiting                        → unscored, retried
    │ ├ JudgeError                 a judge could not be asked                                 → unscored
    │ └ InvalidModelResponseError  it answered, but not with something usable                   → scored, retried
    │   └ EmptyModelResponseError
    │     └ UnreadableResponseError   a web page, garbage, nothing: no answer of a model        → unscored, retried
    ├ OverlongPromptError          the conversation no longer fits into the model               → scored, truncated
    ├ ToolError                    → scored
    │ ├ ToolParseError
    │ └ ToolCallError
    ├ InfraError                   a machine failed                                             → unscored, retried
    │ ├ TunnelError
    │ └ SandboxError
    │   └ BrowserSandboxError
    ├ ScoringTimeoutError          scoring outlived its time limit                              → unscored
    ├ RolloutError                 the environment's own code raised something else             → unscored
    └ RepeatedError                no rollout's own: all of them ended with the same error      → the run ends early

Unscored means `reward` is None and the rollout stays out of every average. "Retried" counts against `max_retries`.
"""

from __future__ import annotations

import asyncio


class Error(Exception):
    """Base of everything a rollout can end with."""


class ModelError(Error):
    """The model's endpoint failed."""


class ModelAuthError(ModelError):
    """The endpoint refused the key or the account; no other rollout would fare better."""


class RateLimitError(ModelError):
    """The endpoint had no room for the request (HTTP 429), also after every repetition of it."""


class JudgeError(ModelError, RuntimeError):
    """The model that judges gave no answer: nothing can be said of the one that is judged."""


class InvalidModelResponseError(ModelError):
    """The model's answer is not usable."""


class EmptyModelResponseError(InvalidModelResponseError):
    """The model answered nothing at all."""


class UnreadableResponseError(EmptyModelResponseError):
    """The endpoint answered, and there is no answer of a model in it: a web page, garbage, an empty body."""


class OverlongPromptError(Error):
    """The prompt is longer than the model takes."""


class ToolError(Error):
    """A tool could not be used."""


class ToolParseError(ToolError):
    """The arguments of a tool call are not valid."""


class ToolCallError(ToolError):
    """A tool raised."""


class InfraError(Error):
    """Machines failed, not the model."""


class TunnelError(InfraError):
    """A tunnel broke."""


class SandboxError(InfraError):
    """A sandbox, or the server in it, failed."""


class BrowserSandboxError(SandboxError):
    """A sandbox with a browser in it failed."""


class ScoringTimeoutError(Error):
    """Scoring took longer than `scoring_timeout_seconds`."""


class RolloutError(Error):
    """The environment's code raised something that is not a `vf.Error`; the original is `__cause__`."""


class RepeatedError(Error):
    """Rollout after rollout ended with the same error, so that playing the others would be in vain."""


def typed(error: BaseException) -> Error:
    """`error` itself when it is one of ours, else a RolloutError caused by it."""
    if isinstance(error, Error):
        return error
    if isinstance(error, asyncio.CancelledError):
        wrapped = RolloutError("CancelledError: a task that the environment's code waited for was cancelled.")
    elif isinstance(error, SystemExit):
        wrapped = RolloutError(f"SystemExit: the environment's code called exit({error.code!r}).")
    else:
        wrapped = RolloutError(f"{type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


def is_unscored(error: BaseException | None) -> bool:
    """Whether a rollout that ended with `error` says nothing about the model."""
    if isinstance(error, UnreadableResponseError):
        return True
    if error is None or isinstance(error, InvalidModelResponseError | OverlongPromptError | ToolError):
        return False
    if isinstance(error, ModelError | InfraError | ScoringTimeoutError | RolloutError):
        return True
    return not isinstance(error, Error)


def is_retriable(error: BaseException | None) -> bool:
    """Whether another attempt may end differently."""
    return isinstance(error, InfraError | InvalidModelResponseError | RateLimitError)
