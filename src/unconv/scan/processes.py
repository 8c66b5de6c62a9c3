"""Run one process per device on this machine: start it, give it shards, start it again if it is killed, and end it."""

from __future__ import annotations

import os
import pickle
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Hashable, Sequence
from contextlib import suppress
from typing import Any

import torch

from unconv.errors import ShapeError
from unconv.scan.driving import Advanced, Done, Event, Failed, Lost
from unconv.scan.kit import Kit
from unconv.scan.listed import Entry

_START = "import sys; sys.path[:] = {path!r}; from unconv.scan.worker import main; main()"
_LINES = 8  # the last lines that a process printed, quoted when it is lost


def devices_named(devices: str | Sequence[str], cores: int) -> list[str]:
    """Return the devices named by "all", "cuda:0,cuda:1" or a list; one that is named twice gets two processes.

    Args:
        cores: the cores of each process, by which "all" divides those of a CPU.

    Raises:
        ShapeError: there is no such device, or they are of different kinds, whose results differ in the last bits.
    """
    names = devices.split(",") if isinstance(devices, str) else list(devices)
    if names == ["all"]:
        count = torch.cuda.device_count()
        return [f"cuda:{number}" for number in range(count)] or ["cpu"] * max(1, (os.cpu_count() or 1) // cores)
    kinds = {_kind(name.strip()) for name in names}
    if len(kinds) > 1:
        raise ShapeError(
            f"devices: {', '.join(names)} came, but devices of one kind were needed: last bits differ between kinds. "
            "Name one kind."
        )
    return [name.strip() for name in names]


def _kind(name: str) -> str:
    """Return the kind of a device.

    Raises:
        ShapeError: there is no such device here.
    """
    known = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    known += ["mps"] if torch.backends.mps.is_available() else []
    if name not in known and name != "cuda":
        raise ShapeError(f'devices: {name!r} came, but there are {", ".join(known)} here. Name some of them, or "all".')
    if name == "cuda" and len(known) < 2:
        raise ShapeError('devices: "cuda" came, but torch finds no GPU here. Name "cpu".')
    return torch.device(name).type


class Processes:
    """Workers that are processes on this machine, one for each named device.

    Args:
        kit: what they need to scan.
        devices: as `devices_named` returns them.
    """

    twice = False
    limit: float | None = None
    tries = 1
    losses = 3

    def __init__(self, kit: Kit, devices: Sequence[str]) -> None:
        self.size = len(devices)
        self.said = f"starting {self.size} processes" if self.size > 1 else "starting a process"
        self._answers: queue.SimpleQueue[tuple[_Process, Any]] = queue.SimpleQueue()
        self._kit = pickle.dumps(kit, protocol=pickle.HIGHEST_PROTOCOL)
        self._ready: list[_Process] = []
        self._running: set[_Process] = set()
        for number, device in enumerate(devices):
            self._start(f"process {number + 1} on {device}", device)

    def _start(self, name: str, device: str) -> None:
        self._running.add(_Process(name, device, self._kit, self._answers))

    def free(self) -> list[Hashable]:
        """Return the workers that are waiting for a shard."""
        return list(self._ready)

    def hand(self, worker: Hashable, number: int, entries: Sequence[Entry]) -> None:
        """Give a worker a shard."""
        assert isinstance(worker, _Process)
        self._ready.remove(worker)
        worker.send(pickle.dumps((number, list(entries))))

    def events(self, seconds: float) -> list[Event]:
        """Return the events since the last call, waiting `seconds` for the first one."""
        result = list[Event]()
        with suppress(queue.Empty):
            result += self._events_of(*self._answers.get(timeout=seconds))
            while True:
                result += self._events_of(*self._answers.get_nowait())
        return result

    def _events_of(self, worker: _Process, answer: tuple[Any, ...]) -> list[Event]:
        if worker not in self._running:  # dropped meanwhile
            return []
        kind, *parts = answer
        if kind == "advanced":
            return [Advanced(worker, *parts)]
        if kind == "failed":
            return [Failed(worker, *parts)]
        if kind == "gone":
            worker.expect_end()
            self.drop(worker)
            return [Lost(worker, worker.end())]
        self._ready.append(worker)
        return [Done(worker, *parts)] if kind == "done" else []

    def drop(self, worker: Hashable) -> None:
        """End a worker and start another in its place."""
        assert isinstance(worker, _Process)
        worker.kill()
        self._running.discard(worker)
        if worker in self._ready:
            self._ready.remove(worker)
        self._start(worker.name, worker.device)

    def close(self) -> None:
        """End all workers; only the shards that they are scanning are lost."""
        for worker in self._running:
            worker.kill()
        self._running.clear()


class _Process:
    """A worker's process, and the threads that read its output."""

    def __init__(self, name: str, device: str, kit: bytes, answers: queue.SimpleQueue[Any]) -> None:
        self.name, self.device, self._answers = name, device, answers
        self._last_lines: deque[str] = deque(maxlen=_LINES)
        # Not with `-m`, which would look for modules in the current folder first, where anything may lie.
        command = [sys.executable, "-c", _START.format(path=sys.path)]
        pipe = subprocess.PIPE
        # In a session of its own, so that Ctrl-C in the terminal reaches only the parent.
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
        self._threads = [
            threading.Thread(target=self._listen, args=[kit], daemon=True),
            threading.Thread(target=self._drain, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def __str__(self) -> str:
        return self.name

    def send(self, message: bytes) -> None:
        """Send a message. If the process has ended the message is lost, and its listener reports the end."""
        assert self._process.stdin is not None
        with suppress(OSError, ValueError):
            self._process.stdin.write(message)
            self._process.stdin.flush()

    def _listen(self, kit: bytes) -> None:
        self.send(pickle.dumps(self.device) + kit)
        assert self._process.stdout is not None
        try:
            while True:
                self._answers.put((self, pickle.load(self._process.stdout)))
        except Exception:  # it has ended, perhaps within an answer
            self._answers.put((self, ("gone",)))

    def _drain(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._last_lines.append(line.decode(errors="replace").rstrip())

    def expect_end(self) -> None:
        """Wait briefly for a process that has closed its output to end by itself, so that its own exit status is known."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(2)

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):  # a process may hang on a disk that is gone
            self._process.wait(10)
        for thread in self._threads:
            thread.join(5)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            with suppress(OSError, ValueError):
                if stream is not None:
                    stream.close()

    def end(self) -> str:
        """Return in words how the process ended."""
        status = self._process.returncode
        words = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return words + (f" ({' / '.join(self._last_lines)})" if self._last_lines else "")
