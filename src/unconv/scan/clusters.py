"""Run workers on a Ray cluster, or on one that is started on this machine for the scan.

Only Ray's core is used: plain actors, each of which opens the network once. Ray's own retries are off; we hand lost shards
out again ourselves. Pictures do not pass through Ray: workers read them from their files, and answer with shards.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from unconv.errors import ScanError, UnconvError
from unconv.scan.driving import Advanced, Done, Event, Failed, Lost
from unconv.scan.kit import Kit, Scanner
from unconv.scan.listed import Entry

_LEAST = (2, 59)  # the first version of Ray whose local clusters ask for a token
_PATIENCE = 120.0  # seconds within which a worker must start
_WITHOUT_TOKEN = """
import sys
sys.path[:] = [path for path in sys.path if path]
from ray._raylet import GcsClient
try:
    GcsClient(address=sys.argv[1]).internal_kv_exists(b"unconv", None, timeout=20)
except Exception as error:
    print(type(error).__name__)
"""
OPEN = "UNCONV_RAY_WITHOUT_TOKEN"
"""An environment variable: set it to 1 to use a cluster that asks for no token."""


def ray_library() -> Any:
    """Return the module ray.

    Raises:
        ScanError: Ray is not installed, or too old.
    """
    try:
        import ray
    except ImportError as error:
        raise ScanError('scan: ray is not installed, but was asked for: pip install "unconv[ray]".') from error
    if tuple(int(part) for part in re.findall(r"\d+", ray.__version__)[:2]) < _LEAST:
        raise ScanError(
            f"scan: ray {ray.__version__} came, but {'.'.join(map(str, _LEAST))} or later was needed: before it, anybody who "
            'reached a cluster could run programs on it. pip install --upgrade "unconv[ray]".'
        )
    return ray


class Cluster:
    """Workers that are Ray actors.

    Args:
        kit: what they need to scan.
        address: "local", or the host:port of a cluster. A cluster to which this program is already connected is used instead.
        most: the largest number of workers.
        patience: seconds within which a worker must start.

    Raises:
        ScanError: Ray is not installed, nothing is free, or the cluster asks for no token.
    """

    twice = True
    limit: float | None = None
    tries = 3
    losses = 10

    def __init__(self, kit: Kit, address: str, most: int, patience: float = _PATIENCE) -> None:
        self._ray, self._patience = ray_library(), patience
        self._own = not self._ray.is_initialized()
        if self._own:
            _connect(self._ray, address)
        try:
            self._device = str(kit.run["device"])
            self._needs = {"num_gpus": 1, "num_cpus": 1} if self._device != "cpu" else {"num_cpus": kit.run["cores"]}
            self.size, self.said = _capacity(self._ray, self._needs, most)
            self._kit = self._ray.put(kit)
            self._waited = time.monotonic()
            self._calls: dict[Any, tuple[_Worker, str, int]] = {}
            self._ready: list[_Worker] = []
            for number in range(self.size):
                self._start(f"Ray's worker {number + 1}")
        except BaseException:
            if self._own:
                self._ray.shutdown()
            raise

    def _start(self, name: str) -> None:
        actor = self._ray.remote(max_restarts=-1, max_task_retries=0, **self._needs)(Actor).remote()
        worker = _Worker(name, actor)
        self._call(worker, "here", actor.here.remote())

    def _call(self, worker: _Worker, what: str, answer: Any, number: int = -1) -> None:
        self._calls[answer] = (worker, what, number)

    def free(self) -> list[Hashable]:
        """Return the workers that are waiting for a shard."""
        return list(self._ready)

    def hand(self, worker: Hashable, number: int, entries: Sequence[Entry]) -> None:
        """Give a worker a shard, with absolute paths of its pictures, since it may run in another folder or machine."""
        assert isinstance(worker, _Worker)
        self._ready.remove(worker)
        rows = [e._replace(source=os.path.abspath(e.source)) if e.source else e for e in entries]
        self._call(worker, "scan", worker.actor.scan.remote(number, rows), number)

    def events(self, seconds: float) -> list[Event]:
        """Return the events since the last call, waiting `seconds` for the first one.

        Raises:
            ScanError: no worker started in time.
        """
        calls = list(self._calls)
        done: list[Any] = []
        if calls and self._ray.wait(calls, num_returns=1, timeout=seconds)[0]:
            done, _ = self._ray.wait(calls, num_returns=len(calls), timeout=0)
        result = [event for call in done for event in self._answered(call)]
        any_running = self._ready or any(what != "here" for _, what, _ in self._calls.values())
        self._waited = time.monotonic() if any_running else self._waited
        if time.monotonic() - self._waited > self._patience:
            raise ScanError(
                f"scan: none of Ray's workers started within {self._patience:.0f} s ({_free(self._ray, 'CPU')}, "
                f"{_free(self._ray, 'GPU')}). Look at the cluster (`ray status`), then run the scan again; it continues."
            )
        return result

    def _answered(self, call: Any) -> Iterator[Event]:
        worker, kind, number = self._calls.pop(call)
        if worker.dropped:
            return
        errors = self._ray.exceptions
        try:
            answer = self._ray.get(call)
        except errors.RayTaskError as error:
            yield from self._raised(worker, kind, error)
        except errors.RayError as error:  # the actor, its node, or its answer is gone
            yield from self._lost(worker, kind, error)
        else:
            if kind == "here":
                self._call(worker, "open", worker.actor.open.remote(self._kit, self._device))
                return
            self._ready.append(worker)
            if kind == "scan":
                content, pictures, forward = answer
                yield Advanced(worker, pictures, forward)
                yield Done(worker, number, content)

    def _raised(self, worker: _Worker, kind: str, error: Any) -> Iterator[Event]:
        cause = error.cause if isinstance(error.cause, Exception) else error
        if isinstance(cause, _NotOpenError):
            yield from self._lost(worker, "here", cause)
            return
        if kind == "scan":
            self._ready.append(worker)
        yield Failed(worker, cause if isinstance(cause, UnconvError) else RuntimeError(f"{type(cause).__name__}: {cause}"))

    def _lost(self, worker: _Worker, kind: str, error: Exception) -> Iterator[Event]:
        """Wait for a lost worker that Ray starts again; replace one that died for good."""
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        yield Lost(worker, f"was lost ({' … '.join(dict.fromkeys([lines[0], lines[-1]]))})")
        if kind == "here" and isinstance(error, self._ray.exceptions.ActorDiedError):
            self.drop(worker)
        else:
            self._call(worker, "here", worker.actor.here.remote())

    def drop(self, worker: Hashable) -> None:
        """End a worker that does not answer, and start another in its place."""
        assert isinstance(worker, _Worker)
        worker.dropped = True
        if worker in self._ready:
            self._ready.remove(worker)
        self._calls = {call: entry for call, entry in self._calls.items() if entry[0] is not worker}
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(worker.actor)
        self._start(worker.name)

    def close(self) -> None:
        """End all workers, and the cluster if it was started for them."""
        workers = {*self._ready, *(worker for worker, _, _ in self._calls.values())}
        self._calls, self._ready = {}, []
        for worker in workers:
            with suppress(self._ray.exceptions.RayError):
                self._ray.kill(worker.actor)
        if self._own:
            self._ray.shutdown()


class _Worker:
    """An actor, and its name in messages."""

    def __init__(self, name: str, actor: Any) -> None:
        self.name, self.actor, self.dropped = name, actor, False

    def __str__(self) -> str:
        return self.name


class _NotOpenError(Exception):
    """Raised by an actor that was started again and has not opened the network yet."""


class Actor:
    """The program of a worker process of Ray's: it opens the network once and scans shards."""

    def __init__(self) -> None:
        self.scanner: Scanner | None = None

    def here(self) -> None:
        """Return nothing; an answer shows that the process runs."""

    def open(self, kit: Kit, device: str) -> None:
        """Open the network."""
        self.scanner = self.scanner or Scanner(kit, device)

    def scan(self, number: int, entries: Sequence[Entry]) -> tuple[bytes, int, float]:
        """Return the content of a shard's file, its number of pictures, and the seconds that the network took."""
        if self.scanner is None:
            raise _NotOpenError
        forward = 0.0

        def tell(_pictures: int, seconds: float) -> None:
            nonlocal forward
            forward += seconds

        return self.scanner.scan(number, entries, tell), len(entries), forward


def _capacity(ray: Any, needs: Mapping[str, int], most: int) -> tuple[int, str]:
    """Return the number of workers that the free resources allow, and these resources in words.

    Raises:
        ScanError: they allow none.
    """
    free, names = ray.available_resources(), {"num_cpus": "CPU", "num_gpus": "GPU"}
    capacity = min(int(free.get(names[need], 0) // count) for need, count in needs.items())
    words = " and ".join(_free(ray, names[need]) for need in needs)
    if capacity < 1:
        needed = ", ".join(f"{count} {names[need]}" for need, count in needs.items())
        raise ScanError(
            f"scan: {words}, but a worker needs {needed}. End other work on the cluster, add a machine, or pass fewer cores."
        )
    size = min(capacity, most)
    return size, f"Ray: {words}; starting {size} {'worker' if size == 1 else 'workers'}"


def _free(ray: Any, name: str) -> str:
    free, all_there = ray.available_resources().get(name, 0), ray.cluster_resources().get(name, 0)
    return f"{free:g} of {all_there:g} {name}s are free"


def _connect(ray: Any, address: str) -> None:
    """Start a cluster on this machine, or connect to one.

    Raises:
        ScanError: it fails, or the cluster asks for no token.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address.startswith("ray://"):
        raise ScanError(
            f"scan: {address} is a client's address, but host:port was needed. Run the scan on a machine of the cluster, and "
            'pass "auto" or host:port.'
        )
    with _own_signals():
        if address == "local":
            if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token" and not _may_be_open():
                raise ScanError(
                    "scan: RAY_AUTH_MODE is set so that Ray asks for no token, but Ray listens on all addresses of this "
                    f"machine. Unset it, or, if only you can reach the machine, set {OPEN}=1."
                )
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # otherwise Ray sends usage statistics to its makers
            ray.init(address="local", include_dashboard=False, **quiet)
            return
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            words = str(error).strip().splitlines() or [type(error).__name__]
            raise ScanError(
                f"scan: Ray does not connect to {address}: {words[0]} Check the address, and `ray status`."
            ) from error
    if not _may_be_open() and not asks_for_token(ray):
        ray.shutdown()
        raise ScanError(
            f"scan: the cluster at {address} asks for no token: whoever reaches it can run programs on all its machines. Start "
            f"it with RAY_AUTH_MODE=token (`ray get-auth-token --generate`), or, if only you can reach it, set {OPEN}=1."
        )


def _may_be_open() -> bool:
    return os.environ.get(OPEN) == "1"


def asks_for_token(ray: Any) -> bool:
    """Return whether the connected cluster refuses a client without a token, by connecting to it from such a process."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    command = [sys.executable, "-c", _WITHOUT_TOKEN, ray.get_runtime_context().gcs_address]
    try:
        result = subprocess.run(command, env=environment | {"RAY_AUTH_MODE": "disabled"}, capture_output=True, timeout=60)
    except subprocess.TimeoutExpired:
        return False  # not proven, so the cluster counts as open
    return result.stdout.strip() == b"AuthenticationError"


@contextmanager
def _own_signals() -> Iterator[None]:
    """Restore this program's handlers of Ctrl-C and SIGTERM, which Ray replaces when it starts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
