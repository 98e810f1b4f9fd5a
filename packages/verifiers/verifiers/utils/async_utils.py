"""Calling an author's function with the arguments it asks for, sync or async."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any


@functools.lru_cache(maxsize=1024)
def _wants(func: Callable[..., Any]) -> tuple[tuple[str, ...], bool]:
    parameters = inspect.signature(func).parameters.values()
    named = tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
    return named, any(p.kind is p.VAR_KEYWORD for p in parameters)


def parameter_names(func: Callable[..., Any]) -> tuple[tuple[str, ...], bool]:
    """The names of `func`'s parameters, and whether it takes `**kwargs` too."""
    bound = getattr(func, "__func__", None)
    try:
        if bound is not None:  # one signature for all instances, so that the cache keeps none of them alive
            names, takes_all = _wants(bound)
            return names[1:], takes_all
        return _wants(func)
    except TypeError:  # an unhashable callable object
        return _wants.__wrapped__(func)


def ends_only_its_rollout(error: BaseException) -> bool:
    """Whether what an author's code has raised concerns its own rollout, and not the run.

    So do `exit()` in code of the model's that was run here, and the cancellation of a task that was waited for; not so
    Ctrl-C and the cancellation of the running task itself.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and not task.cancelling()
    return isinstance(error, Exception | SystemExit)


async def call_all(
    handlers: Iterable[Any], call: Callable[[Any], Awaitable[Any]], what: str, logger: logging.Logger
) -> None:
    """Call every handler, also when one of them fails (which is logged) or is cancelled: each has something to give
    back.
    """
    interrupted = None
    for handler in handlers:
        try:
            await call(handler)
        except BaseException as error:
            if ends_only_its_rollout(error):
                logger.warning("%s %s failed: %s: %s", what, function_name(handler), type(error).__name__, error)
            else:
                interrupted = error
    if interrupted is not None:
        raise interrupted


async def maybe_await(value: Any) -> Any:
    """`value`, awaited when it can be."""
    return await value if inspect.isawaitable(value) else value


async def maybe_call_with_named_args(func: Callable[..., Any], **available: Any) -> Any:
    """Call `func` with those of `available` that it names (all of them when it takes `**kwargs`)."""
    names, takes_all = parameter_names(func)
    given = available if takes_all else {name: available[name] for name in names if name in available}
    return await maybe_await(func(**given))


def function_name(func: Callable[..., Any]) -> str:
    """The name of a function, also of a partial one, or the class of a callable object."""
    func = func.func if isinstance(func, functools.partial) else func
    return getattr(func, "__name__", type(func).__name__)
