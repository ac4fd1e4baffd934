"""The process that computes, seen from both ends of its pipe.

Why a process and not just a thread: importing torch in a thread holds the interpreter's lock for
0.5 to 0.8 s at a stretch (measured on two busy cores; 0.5 s is allowed), a step of several
network calls cannot be interrupted in a thread but a process can be killed within a second, and
memory of the graphics card comes back for certain only when a process ends. Why not
`multiprocessing`: its spawned children run the main script again, which is napari itself or a
user's script without a guard.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO, Any

from napari_dps.plugin.messages import (
    Estimate,
    Failed,
    Finished,
    Message,
    Partial,
    Request,
    Stop,
    answer,
)

#: Seconds that a cancelled run gets to finish its step before its process is ended.
GRACE = 0.4
_COMMAND = (sys.executable, "-c", "from napari_dps.plugin.process import serve; serve()")
_STOP, _END = "stop", "end"
_HEAD = struct.Struct(">Q")
# What was printed before this line (by start-up files of the interpreter) is no message.
_HELLO = b"napari-dps computes\n"


def _write(stream: IO[bytes], message: Any) -> None:
    data = pickle.dumps(message, protocol=5)
    stream.write(_HEAD.pack(len(data)))
    stream.write(data)
    stream.flush()


def _read(stream: IO[bytes]) -> Any:
    """Return the next message.

    Raises
    ------
    EOFError
        If the other side is gone.
    """
    head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size:
        raise EOFError
    (length,) = _HEAD.unpack(head)
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return pickle.loads(data)


def serve(make_run: Any = None) -> None:
    """Answer requests from stdin on stdout until stdin ends (the child's whole life).

    Parameters
    ----------
    make_run : callable, optional
        As in `answer`.
    """
    if hasattr(os, "nice"):
        os.nice(5)  # the window comes first where both want the same core
    # Whatever anybody prints must not fall into the pipe.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    out.write(_HELLO)
    out.flush()
    requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
    stop = Stop()

    def listen() -> None:
        stream = sys.stdin.buffer
        while True:
            try:
                message = _read(stream)
            except EOFError:
                os._exit(0)  # nobody is left to compute for
            if message == _STOP:
                stop.set()
            else:
                stop.clear()
                requests.put(message)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        request = requests.get()
        for message in answer(request, stop, make_run):
            _write(out, message)


class Computer:
    """The parent's end: starts the process when it is first needed, and ends it.

    Parameters
    ----------
    command : sequence of str, optional
        What to start.
    """

    def __init__(self, command: tuple[str, ...] = _COMMAND) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._closed = False
        self._lock = threading.Lock()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End the process at once; the next request starts another one."""
        with self._lock:  # the window and the worker may both want to
            process, self._process = self._process, None
            if process is None:
                return
            process.kill()
            process.wait()
            assert process.stdin is not None
            with contextlib.suppress(OSError):  # what was still to be sent reaches nobody
                process.stdin.close()
            assert self._errors is not None
            self._errors.close()

    def close(self) -> None:
        """End the process for good."""
        self._closed = True
        self.kill()

    def ask(self, request: Request, cancelled: Callable[[], bool]) -> Iterator[Message | None]:
        """Send a request and go through its answers; None means "nothing yet".

        The last message is `Finished`, `Failed` or, where only that was asked for, `Estimate`.
        To be called from one thread at a time, and not from the window's.

        Parameters
        ----------
        request : Request
            What to do.
        cancelled : callable
            Asked often; once it is true the process gets `GRACE` seconds to stop by itself, then
            it is killed, and the samples handed over until then are the result.
        """
        process = self._start()
        over = False
        try:
            for message in self._talk(process, request, cancelled):
                over = isinstance(message, (Finished, Failed)) or (
                    isinstance(message, Estimate) and not request.run
                )
                yield message
        finally:
            if not over:
                self.kill()  # nobody listens any more, so nobody must go on computing

    def _talk(
        self,
        process: subprocess.Popen[bytes],
        request: Request,
        cancelled: Callable[[], bool],
    ) -> Iterator[Message | None]:
        inbox = self._inbox
        partial: Any = None
        asked_to_stop: float | None = None
        self._send(process, request)
        while True:
            if asked_to_stop is None and cancelled():
                asked_to_stop = time.monotonic()
                self._send(process, _STOP)
            if asked_to_stop is not None and time.monotonic() - asked_to_stop > GRACE:
                self.kill()
                yield Finished(request.number, partial, cancelled=True)
                return
            try:
                message = inbox.get(timeout=0.03)
            except queue.Empty:
                yield None
                continue
            if isinstance(message, str):  # _END
                if self._closed or asked_to_stop is not None:
                    yield Finished(request.number, partial, cancelled=True)
                else:
                    yield self._death(request.number, partial)
                return
            if message.number != request.number:
                continue  # left over from a request that nobody waits for any more
            if isinstance(message, Partial):
                partial = message.result
                continue
            yield message
            if isinstance(message, (Finished, Failed)):
                return
            if isinstance(message, Estimate) and not request.run:
                return

    @staticmethod
    def _send(process: subprocess.Popen[bytes], message: Any) -> None:
        assert process.stdin is not None
        # Where the process has died, its reader says so with _END, and better.
        with contextlib.suppress(OSError):
            _write(process.stdin, message)

    def _start(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.kill()
        self._inbox = queue.SimpleQueue()
        self._errors = tempfile.TemporaryFile()
        # As multiprocessing does: the child finds every package that we find.
        path = os.pathsep.join(entry for entry in sys.path if entry)
        flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": path},
            creationflags=flags,
        )
        threading.Thread(
            target=self._listen, args=(self._process, self._inbox), daemon=True
        ).start()
        return self._process

    @staticmethod
    def _listen(process: subprocess.Popen[bytes], inbox: queue.SimpleQueue[Any]) -> None:
        assert process.stdout is not None
        with process.stdout as stream:
            for line in stream:
                if line.endswith(_HELLO):
                    break
            while True:
                try:
                    inbox.put(_read(stream))
                except (EOFError, OSError):
                    inbox.put(_END)
                    return

    def _death(self, number: int, partial: Any = None) -> Message:
        """Return what to say when the process died by itself."""
        process, errors = self._process, self._errors
        if process is None or errors is None:
            return Finished(number, partial, cancelled=True)  # killed from our side meanwhile
        code = process.wait()
        errors.seek(0)
        trace = errors.read().decode(errors="replace")[-4000:]
        self.kill()
        if code == -9:
            text = (
                "the system ended the computation, most likely since memory ran out; "
                "choose a smaller region or fewer samples"
            )
            return Failed(number, "OutOfMemoryError", text, trace, partial)
        last = (trace.strip().splitlines() or ["it said nothing"])[-1][:200]
        text = f"the computing process died (exit code {code}: {last}); run it again"
        return Failed(number, "ComputeError", text, trace, partial)
