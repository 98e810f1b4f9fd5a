"""Calls without `await`, made from those with it: one implementation, two faces.

A class for programs without asyncio lists what it takes over:

    class SandboxClient(Driven[AsyncSandboxClient]):
        get = blocking(AsyncSandboxClient.get)

Signature, types and docstring are those of the async call, for people, editors and type checkers alike. The calls run in
an event loop in a thread of its own, begun at the first of them.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

if TYPE_CHECKING:
    import asyncio

Params = ParamSpec("Params")
Answer = TypeVar("Answer")
Twin = TypeVar("Twin")
Item = TypeVar("Item")

LAST_WORDS_SECONDS = 10.0  # for what a cancelled call still has to tell the Hub
_NOTHING_MORE: Any = object()


class Loop:
    """An event loop in a thread, begun at the first call and ended by `close`, or with whoever holds it."""

    def __init__(self, last: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        """`last` is called in the loop before it ends; it must not hold on to whoever holds this."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._last = last

    def run(self, call: Coroutine[Any, Any, Answer]) -> Answer:
        """The call's answer; a caller that is interrupted cancels it."""
        import asyncio

        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_turn, args=(self._loop,), name="prime-sandboxes", daemon=True)
                self._thread.start()
                # A client that is dropped without `close` takes its thread along.
                self._finalizer = weakref.finalize(self, _end, self._loop, self._last)
            loop = self._loop
        ended = threading.Event()

        async def whole() -> Answer:
            try:
                return await call
            finally:
                ended.set()

        future = asyncio.run_coroutine_threadsafe(whole(), loop)
        try:
            return future.result()
        except BaseException:
            if future.cancel():
                ended.wait(LAST_WORDS_SECONDS)
            raise

    def later(self, call: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Begin a call whose answer nobody waits for; nothing when the thread has ended."""
        import asyncio

        loop = self._loop
        if loop is not None and not loop.is_closed():
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(lambda: asyncio.ensure_future(call()))

    def close(self) -> None:
        """Run the last call and end the thread, whose connections are closed then; nothing when there was no first."""
        if self._loop is not None:
            try:
                if self._last is not None:
                    self.run(self._last())
            finally:
                # Once: another call begins a new thread, whose connections are not this one's to close.
                loop, self._loop = self._loop, None
                thread = self._thread
                self._finalizer.detach()
                _end(loop, None)
                thread.join(LAST_WORDS_SECONDS)


def _end(loop: asyncio.AbstractEventLoop, last: Callable[[], Coroutine[Any, Any, None]] | None) -> None:
    import asyncio

    def begin() -> None:
        if last is None:
            loop.stop()
        else:
            asyncio.ensure_future(last()).add_done_callback(lambda _: loop.stop())

    loop.call_soon_threadsafe(begin)


def _turn(loop: asyncio.AbstractEventLoop) -> None:
    import asyncio

    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:  # until each has closed what it holds
            loop.run_until_complete(asyncio.wait(tasks, timeout=LAST_WORDS_SECONDS))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


class Driven(Generic[Twin]):
    """The blocking face of `twin`, whose calls run in `loop`."""

    def __init__(self, twin: Twin, loop: Loop) -> None:
        self._twin = twin
        self._loop = loop


class Method(Generic[Params, Answer]):
    """A call of `Driven`, taken over from its twin: on an object a bound method, on its class a plain function."""

    def __init__(
        self, call: Callable[..., Any], finish: Callable[[Driven[Any], Any], Any], returns: str | None = None
    ) -> None:
        @functools.wraps(call)
        def method(self: Driven[Any], *args: Any, **keywords: Any) -> Any:
            return finish(self, call(self._twin, *args, **keywords))

        if returns is not None:
            shown = inspect.signature(call)
            vars(method)["__signature__"] = shown.replace(return_annotation=returns)
        self._function = method

    def __set_name__(self, owner: type, name: str) -> None:
        self._function.__name__ = name
        self._function.__qualname__ = f"{owner.__qualname__}.{name}"
        self._function.__module__ = owner.__module__

    @overload
    def __get__(self, instance: None, owner: type) -> Callable[Concatenate[Any, Params], Answer]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Callable[Params, Answer]: ...
    def __get__(self, instance: object | None, owner: type) -> Any:
        return self._function if instance is None else MethodType(self._function, instance)


def blocking(call: Callable[Concatenate[Any, Params], Coroutine[Any, Any, Answer]]) -> Method[Params, Answer]:
    """A coroutine's answer, waited for."""
    return Method(call, lambda self, coroutine: self._loop.run(coroutine))


def direct(call: Callable[Concatenate[Any, Params], Answer]) -> Method[Params, Answer]:
    """A call that does not wait for anything."""
    return Method(call, lambda self, answer: answer)


def wrapping(
    call: Callable[Concatenate[Any, Params], Coroutine[Any, Any, Twin]], kind: Callable[[Twin, Loop], Answer]
) -> Method[Params, Answer]:
    """A coroutine whose answer has a blocking face of its own."""
    return Method(call, lambda self, coroutine: kind(self._loop.run(coroutine), self._loop), _name(kind))


Streamed = TypeVar("Streamed")


@overload
def iterating(call: Callable[Concatenate[Any, Params], AsyncIterator[Item]]) -> Method[Params, Stream[Item]]: ...
@overload
def iterating(
    call: Callable[Concatenate[Any, Params], AsyncIterator[Item]], kind: Callable[[Any, Loop], Streamed]
) -> Method[Params, Streamed]: ...
def iterating(call: Callable[..., Any], kind: Callable[[Any, Loop], Any] | None = None) -> Method[..., Any]:
    """An async iterator, as one for a `for` loop."""
    return Method(call, lambda self, iterator: (kind or Stream)(iterator, self._loop), _name(kind or Stream))


def _name(kind: Callable[..., Any]) -> str:
    return getattr(kind, "__name__", "object")


class Stream(Iterator[Item]):
    """The items of an async iterator; `close()`, or the end of a `with` block, lets go of it before its end."""

    def __init__(self, iterator: AsyncIterator[Item], loop: Loop) -> None:
        self._iterator = iterator
        self._loop = loop
        self._finished = False
        self._step_task: asyncio.Task[Any] | None = None

    def __next__(self) -> Item:
        item = self._loop.run(self._step())
        if item is _NOTHING_MORE:
            self._finished = True
            raise StopIteration
        return item

    async def _step(self) -> Item:
        import asyncio

        self._step_task = asyncio.current_task()
        try:
            return await anext(self._iterator)
        except StopAsyncIteration:
            return _NOTHING_MORE

    def close(self) -> None:
        """Take no more of it; a command that it belongs to is ended."""
        close = getattr(self._iterator, "aclose", None)
        if close is not None and not self._finished:
            self._finished = True
            self._loop.run(self._let_go(close))

    async def _let_go(self, close: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """After the step that may still be going on: Ctrl-C can come when its caller does not know of it yet."""
        import asyncio

        step = self._step_task
        if step is not None and not step.done():
            step.cancel()
            await asyncio.wait([step])
        await close()

    def __del__(self) -> None:
        # A loop that was left with `break`: what it read from is not kept running for nobody.
        if not self._finished:
            close = getattr(self._iterator, "aclose", None)
            if close is not None:
                self._loop.later(close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
