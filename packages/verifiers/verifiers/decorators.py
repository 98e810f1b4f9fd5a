"""Marks on methods of environments and rubrics: when to stop, what to clean up, what to tear down.

Each works bare (`@vf.stop`) or with a priority (`@vf.stop(priority=10)`); higher runs first, then by name.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, overload

Method = Callable[..., Any]


def _mark(kind: str, func: Method | None, priority: int) -> Any:
    def apply(target: Method) -> Method:
        setattr(target, kind, True)
        setattr(target, f"{kind}_priority", priority)
        return target

    return apply if func is None else apply(func)


@overload
def stop(func: Method, *, priority: int = 0) -> Method: ...
@overload
def stop(func: None = None, *, priority: int = 0) -> Callable[[Method], Method]: ...
def stop(func: Method | None = None, *, priority: int = 0) -> Any:
    """`async def f(self, state) -> bool`: True completes the rollout; `f` becomes its `stop_condition`."""
    return _mark("stop", func, priority)


@overload
def cleanup(func: Method, *, priority: int = 0, stage: str = "rollout") -> Method: ...
@overload
def cleanup(func: None = None, *, priority: int = 0, stage: str = "rollout") -> Callable[[Method], Method]: ...
def cleanup(func: Method | None = None, *, priority: int = 0, stage: str = "rollout") -> Any:
    """`async def f(self, state)`: runs after each rollout, however it ended."""
    if stage != "rollout":
        raise ValueError(f"@cleanup knows the stage 'rollout' only, not {stage!r}.")
    return _mark("cleanup", func, priority)


@overload
def teardown(func: Method, *, priority: int = 0) -> Method: ...
@overload
def teardown(func: None = None, *, priority: int = 0) -> Callable[[Method], Method]: ...
def teardown(func: Method | None = None, *, priority: int = 0) -> Any:
    """`async def f(self)`: runs once at the end of a run, in the run's own event loop."""
    return _mark("teardown", func, priority)


@functools.lru_cache(maxsize=256)
def stop_conditions(cls: type) -> tuple[tuple[str, bool], ...]:
    """The names of the stop conditions of `cls` in the order they are asked, each with whether it is a coroutine
    function of the one argument `state`, as most are: those are called without looking at what they want.
    """
    found = []
    for name in _marked_names(cls, "stop"):
        method = getattr(cls, name)
        plain = inspect.iscoroutinefunction(method) and list(inspect.signature(method).parameters) == ["self", "state"]
        found.append((name, plain))
    return tuple(found)


def marked(owner: object, kind: str) -> list[Method]:
    """The bound methods of `owner` marked with `kind`, in the order they run."""
    return [getattr(owner, name) for name in _marked_names(type(owner), kind)]


@functools.lru_cache(maxsize=1024)
def _marked_names(cls: type, kind: str) -> tuple[str, ...]:
    found = []
    for name in dir(cls):
        method = getattr(cls, name, None)
        if callable(method) and getattr(method, kind, False) is True:
            found.append((-getattr(method, f"{kind}_priority", 0), name))
    return tuple(name for _, name in sorted(found))
