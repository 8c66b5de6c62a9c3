"""Many readers of the live page at once: how long they wait, and whether every answer is the library's.

    python benchmarks/readers.py torchvision:squeezenet1_1 --readers 20 --seconds 300

Each reader hands one of a few pictures over and asks for the projections of units drawn at random, one after the other; one
in ten asks and leaves. Every value is compared with that of the library on the same picture, found before. The server runs in
a process of its own, as `unconv serve` starts it.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import unconv

DATA = Path(os.environ.get("UNCONV_DATA", "../shared/data"))
_PICTURES, _UNITS = 4, 40


class Reader(threading.Thread):
    """One reader, and what was answered."""

    def __init__(self, host: str, cookie: str, known: list[dict[str, Any]], until: float, seed: int) -> None:
        super().__init__()
        self.host, self.cookie, self.known, self.until, self.draw = host, cookie, known, until, random.Random(seed)
        self.times: list[float] = []
        self.right = self.busy = self.left = 0
        self.wrong: list[str] = []

    def ask(self, path: str, body: bytes | None = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(self.host, timeout=120)
        connection.request("GET" if body is None else "POST", path, body, {"cookie": self.cookie})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, json.loads(content) if content else None

    def leave(self, path: str) -> None:
        connection = http.client.HTTPConnection(self.host, timeout=120)
        connection.request("GET", path, headers={"cookie": self.cookie})
        connection.close()
        self.left += 1

    def run(self) -> None:
        number = None
        while time.monotonic() < self.until:
            if number is None or self.draw.random() < 0.02:
                truth = self.draw.choice(self.known)
                status, found = self.ask("/live/pictures", truth["bytes"])
                number = found["picture"] if status == 200 else None
                self.busy += status == 503
                continue
            place, channel, value = self.draw.choice(truth["units"])
            path = f"/live/pictures/{number}/{place}/{channel}"
            if self.draw.random() < 0.1:
                self.leave(path)
                continue
            begun = time.monotonic()
            status, found = self.ask(path)
            if status == 400 and "not in memory any more" in found["error"]:
                number = None
            elif status == 503:
                self.busy += 1
                time.sleep(0.2)
            elif status == 200 and found["value"] == value:
                self.right += 1
                self.times.append(time.monotonic() - begun)
            else:
                self.wrong.append(f"{path}: {status} {found if status != 200 else found['value']}, not {value}")


def truths(network: unconv.Network) -> list[dict[str, Any]]:
    places = network.rectified(network.noise())
    found, draw = [], random.Random(0)
    for path in sorted((DATA / "imagenet_sample").glob("*.jpg"))[:_PICTURES]:
        data = path.read_bytes()
        recording = network.record(Image.open(io.BytesIO(data)), places)
        units = []
        for _ in range(_UNITS):
            place = draw.randrange(len(places))
            one = recording.project(places[place], [draw.randrange(len(recording.activation(places[place])))])[0]
            units.append((place, one.unit[0], one.value))
        found.append({"bytes": data, "units": units})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="unconv:caltech")
    parser.add_argument("--readers", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--weights", help="a file")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    network = unconv.load(arguments.model, arguments.weights)
    known = truths(network)
    command = [sys.executable, "-m", "unconv", "serve", arguments.model]
    command += ["--weights", arguments.weights] if arguments.weights else []
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        host, path = server.stdout.readline().split(" at http://")[1].strip().split("/", 1)
        connection = http.client.HTTPConnection(host)
        connection.request("GET", "/" + path)
        cookie = (connection.getresponse().getheader("set-cookie") or "").split(";")[0]
        connection.close()
        until = time.monotonic() + arguments.seconds
        readers = [Reader(host, cookie, known, until, seed) for seed in range(arguments.readers)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    finally:
        server.terminate()
        server.wait(30)
    times = sorted(second for reader in readers for second in reader.times)
    wrong = [each for reader in readers for each in reader.wrong]
    busy, left = (sum(getattr(reader, name) for reader in readers) for name in ("busy", "left"))
    print(f"{arguments.model}: {len(readers)} readers, {arguments.seconds:.0f} s: {len(times):,} answers, {len(wrong)} wrong;")
    last = times[round(0.9 * (len(times) - 1))]
    print(f"{busy} told to wait, {left} left before; median {statistics.median(times):.2f} s, nine in ten within {last:.2f} s")
    for each in wrong[:5]:
        print(each)


if __name__ == "__main__":
    main()
