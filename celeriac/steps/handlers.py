"""Calling the handler of a tool in this process: a coroutine, or a function in a thread of its own."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Mapping
from typing import Any

from celeriac.testing import calling
from celeriac.testing.calling import Died


async def call(handler: Callable[..., Any], arguments: Mapping[str, Any], seconds: float) -> Any:
    """What a handler answers, as JSON data. Raises `Died`.

    A function that takes too long is left to itself: its thread goes on, and what it answers
    counts no more.
    """
    try:
        async with asyncio.timeout(seconds) as limit:
            if inspect.iscoroutinefunction(handler):
                answer = await handler(**arguments)
            else:
                answer = await _in_thread(handler, arguments)
                if inspect.isawaitable(answer):
                    answer = await answer
        return calling.plain(answer, what="result")
    except (Exception, SystemExit) as error:
        if limit.expired():
            raise Died("timeout", f"timed out after {seconds:g}s") from error
        raise calling.died(error, handler) from error


async def _in_thread(handler: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    # Not an executor's thread: nothing waits for it, neither the loop's end nor the process's.
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if answered.done():
            return
        if error is None:
            answered.set_result(result)
        else:
            answered.set_exception(error)

    def work() -> None:
        result: Any = None
        failed: BaseException | None = None
        try:
            result = handler(**arguments)
        except StopIteration as error:
            # A future cannot hold one.
            failed = RuntimeError(f"StopIteration: {error}")
        except BaseException as error:  # noqa: BLE001  # whatever it was, the caller is told
            failed = error
        try:
            loop.call_soon_threadsafe(settle, result, failed)
        except RuntimeError:
            return  # the loop has ended meanwhile, and nobody waits

    threading.Thread(target=work, name=f"tool {calling.name_of(handler)}", daemon=True).start()
    return await answered
