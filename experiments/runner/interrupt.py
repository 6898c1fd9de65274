"""Ctrl-C and SIGTERM: the first asks for a tidy end, the second leaves at once."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType, TracebackType

AGAIN_SECONDS = 0.01
IMPORTING = "<frozen importlib._bootstrap>"  # The file name of the frames that import a module.


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM came where nothing needs to be saved."""


class Interruption:
    """While entered, the first SIGINT or SIGTERM raises Interrupted; within `deferred` it is only noted.

    An import is finished first, because compiled modules may crash where one is broken off. Where Python ignores
    exceptions, as in a callback of its garbage collector, Interrupted is raised again afterwards.
    """

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
        self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._raise)
        self._hook, sys.unraisablehook = sys.unraisablehook, self._ignored
        self._entered: FrameType | None = sys._getframe(1)
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook, self._entered = self._hook, None
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
        self._raise(number, frame)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if self._deferred:
            return
        while frame is not None and frame is not self._entered:
            if frame.f_code.co_filename == IMPORTING:
                self._again()
                return
            frame = frame.f_back
        raise Interrupted

    def _again(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)

    def _ignored(self, ignored: "sys.UnraisableHookArgs") -> None:
        if isinstance(ignored.exc_value, Interrupted):
            self._again()
        else:
            self._hook(ignored)
