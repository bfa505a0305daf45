"""Tasks that work beside the body of a context manager, and end with it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup


@asynccontextmanager
async def background() -> AsyncGenerator[TaskGroup]:
    """Run tasks while the body runs; cancel them when it ends.

    An exception of the body alone leaves as it is, not wrapped in a group: who uses an adapter need
    not know that it has tasks.
    """
    body_error: BaseException | None = None
    try:
        async with anyio.create_task_group() as tasks:
            try:
                yield tasks
            except BaseException as error:
                body_error = error
                raise
            finally:
                tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if body_error is not None and group.exceptions == (body_error,):
            raise body_error from body_error.__cause__
        raise
