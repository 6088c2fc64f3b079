"""How long each step of the chain took."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class StepTimer:
    """Seconds by step, in the order in which the steps first came."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Counts what happens within."""
        self.start(step)
        try:
            yield
        finally:
            self.stop(step)

    def start(self, step: str) -> None:
        """Begins, or goes on with, a step."""
        self.seconds.setdefault(step, 0.0)
        self._started[step] = time.perf_counter()

    def stop(self, step: str) -> None:
        """Ends what was begun; nothing where it was not."""
        if step in self._started:
            self.seconds[step] += time.perf_counter() - self._started.pop(step)
