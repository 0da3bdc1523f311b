"""Requests that arrive together are answered together; one that comes alone waits for nobody."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from .problems import Problem

__all__ = ["Batches"]

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Batches(Generic[Asked, Answer]):
    """One thread that answers what has gathered while it answered what was before.

    So a lone request is answered at once, and the more wait, the more share a pass.

    Parameters
    ----------
    answer : callable
        Gets some of what was asked; gives an answer, or what went wrong, for each.
    name : str
        Of the thread.
    most : int
        Answered together, at most.
    waiting : int
        As many may wait; for more `ask` raises Problem 429.
    seen : callable, optional
        Called with how many are answered together.
    """

    def __init__(
        self,
        answer: Callable[[list[Asked]], Sequence[Answer | BaseException]],
        name: str,
        *,
        most: int,
        waiting: int,
        seen: Callable[[int], object] = lambda count: None,
    ) -> None:
        self._answer = answer
        self._most = most
        self._waiting = waiting
        self._seen = seen
        self._queue: deque[tuple[Asked, asyncio.Future[Answer], asyncio.AbstractEventLoop]] = deque()
        self._there = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._queue)

    async def ask(self, *asked: Asked) -> list[Answer]:
        """Return an answer for each, when they are there; the first thing that went wrong is raised."""
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Answer]] = [loop.create_future() for _ in asked]
        with self._there:
            if self._closed:
                raise Problem(503, "the service is shutting down", retry_after=5)
            if len(self._queue) + len(asked) > self._waiting:
                raise Problem(
                    429, f"{len(self._queue):,} queries wait, and no more than {self._waiting:,} may", retry_after=1
                )
            self._queue.extend(zip(asked, futures, [loop] * len(asked), strict=True))
            self._there.notify()
        try:
            return [await future for future in futures]
        finally:
            for future in futures:  # whoever asked may have gone: what is not begun is not done
                future.cancel()

    def close(self) -> None:
        """Answer what waits, and end."""
        with self._there:
            self._closed = True
            self._there.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._there:
                while not (self._queue or self._closed):
                    self._there.wait()
                if not self._queue:
                    return
                taken = [self._queue.popleft() for _ in range(min(self._most, len(self._queue)))]
            taken = [one for one in taken if not one[1].cancelled()]
            if taken:
                self._seen(len(taken))
                for (_, future, loop), answer in zip(taken, self._answers([one for one, _, _ in taken]), strict=True):
                    _settle(loop, future, answer)

    def _answers(self, asked: list[Asked]) -> Sequence[Answer | BaseException]:
        try:
            answers = self._answer(asked)
        except Exception as error:
            return [error] * len(asked)
        assert len(answers) == len(asked)
        return answers


def _settle(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Answer], answer: Answer | BaseException) -> None:
    def settle() -> None:
        if future.done():
            return
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    with contextlib.suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(settle)
