"""Ctrl-C and SIGTERM: the first asks for a tidy end, the second leaves at once."""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType, TracebackType


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM came where nothing needs to be saved."""


class Interruption:
    """While entered, the first SIGINT or SIGTERM raises Interrupted; within `deferred` it is only noted."""

    def __init__(self) -> None:
        """Nothing has happened yet."""
        self.signal = 0
        self._deferred = False

    def __bool__(self) -> bool:
        return self.signal != 0

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells have it: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal

    def __enter__(self) -> "Interruption":
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Within, whoever runs looks at this object and ends when it is true."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal:
            os._exit(128 + number)  # Workers watch their parent and end with it.
        self.signal = number
        if not self._deferred:
            raise Interrupted
