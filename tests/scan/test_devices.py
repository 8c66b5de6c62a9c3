"""Scans by several processes of one machine: the same bytes as by one, whoever is killed."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import unconv
from cases.scans import faulty, small
from unconv.scan.data_set import scan_part
from unconv.scan.kit import Scanner, pack
from unconv.scan.opening import open_pictures
from unconv.scan.processes import devices_named
from unconv.scan.run import known_run

TABLES = ("index.parquet", "units.parquet", "pictures.parquet")
posix = pytest.mark.skipif(sys.platform == "win32", reason="the system knows no SIGKILL")


def hashes(folder):
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in TABLES]


@pytest.fixture(scope="module")
def whole(pictures, tmp_path_factory):
    """The hashes of a scan by one process."""
    folder = tmp_path_factory.mktemp("whole")
    unconv.scan(faulty(), pictures, folder, batch=4, shard=8, cores=1)
    return hashes(folder)


def test_a_device_that_is_not_there_is_refused(pictures, tmp_path):
    for devices in ("cuda:77", "gpu", "", "cpu,tpu"):
        with pytest.raises(unconv.ShapeError, match=r"devices: .* came, but there are cpu"):
            unconv.scan(small(), pictures, tmp_path, devices=devices)
    assert devices_named("cpu, cpu", 1) == ["cpu", "cpu"]
    assert set(devices_named("all", 10**6)) <= {"cpu", "cuda:0"} | {f"cuda:{n}" for n in range(99)}


def test_pictures_in_memory_are_refused_with_what_to_do(tmp_path):
    array = np.zeros((8, 12, 12, 3), np.uint8)
    with pytest.raises(unconv.ScanError, match=r"an array in memory came, which other processes cannot read\. Save it"):
        unconv.scan(small(), array, tmp_path, devices="cpu", batch=4, shard=4)


def test_a_network_that_cannot_be_sent_is_refused_with_what_to_do(pictures, tmp_path):
    class Local(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = small().module

        def forward(self, x):
            return self.inside(x)

    network = unconv.Network(Local().eval(), small().preprocess, (3, 12, 12))
    with pytest.raises(unconv.ScanError, match=r"the network Local cannot be sent .* Define its parts in a file"):
        unconv.scan(network, pictures, tmp_path, devices="cpu", batch=4, shard=8)


def test_a_scan_goes_on_with_the_cores_it_began_with(pictures, tmp_path):
    scan_part(small(), pictures, tmp_path, "1/2", batch=4, shard=16, cores=1)
    assert known_run(tmp_path)["cores"] == 1
    with pytest.raises(unconv.ScanError, match="cores: 1 there, 2 now"):
        scan_part(small(), pictures, tmp_path, "2/2", batch=4, shard=16, cores=2)
    with pytest.raises(unconv.ShapeError, match="cores: 0 came"):
        unconv.scan(small(), pictures, tmp_path, batch=4, shard=16, cores=0)
    assert scan_part(small(), pictures, tmp_path, "2/2", batch=4, shard=16) is not None


def test_a_process_refuses_a_run_that_is_not_its_own(pictures, tmp_path):
    unconv.scan(small(), pictures, tmp_path, batch=4, shard=16)
    kit = pack(small(seed=1), known_run(tmp_path), open_pictures(pictures), 1)
    with pytest.raises(unconv.ScanError, match=r"what cpu is to do is of another run.*weights"):
        Scanner(kit, "cpu")


def test_a_machine_that_does_not_find_the_pictures_refuses(pictures, tmp_path):
    unconv.scan(small(), pictures, tmp_path / "i", batch=4, shard=16)
    kit = pack(small(), known_run(tmp_path / "i"), open_pictures(pictures), 1)
    assert kit.first.endswith("000.png")
    with pytest.raises(unconv.ScanError, match=r"does not find .*gone\.png, which the machine that started"):
        Scanner(replace(kit, first=str(tmp_path / "gone.png")), "cpu")


@posix
@pytest.mark.slow
def test_two_processes_of_which_one_is_killed_write_the_same_bytes(pictures, tmp_path, whole):
    (tmp_path / "f").mkdir()
    told = []
    network = faulty("kill", folder=tmp_path / "f")
    unconv.scan(
        network, pictures, tmp_path / "i", None, 32, lambda *t: told.append(t), batch=4, shard=8, devices="cpu,cpu", cores=1
    )
    assert list((tmp_path / "f").iterdir())  # it was killed
    assert hashes(tmp_path / "i") == whole
    assert told[0] == ("starting 2 processes", 0, 45)
    assert not [path for path in (tmp_path / "i").rglob("*") if path.suffix in (".lock", ".partial")]


@pytest.mark.slow
def test_the_error_of_a_process_is_told_with_its_shard(pictures, tmp_path):
    network = faulty("raise", folder=tmp_path, passes=5)
    with pytest.raises(unconv.ScanError, match="shard 0, pictures 0 to 15, failed on process 1 on cpu: KeyError: 'it fails'"):
        unconv.scan(network, pictures, tmp_path / "i", batch=4, shard=16, devices="cpu", cores=1)


STOPPED = """
import sys
sys.path.insert(0, {tests!r})
from cases.scans import faulty
import unconv
from unconv.files.stops import terminable
with terminable():
    network = faulty("wait", "wait", folder={folder!r}, passes=7)
    unconv.scan(network, {pictures!r}, {out!r}, batch=4, shard=8, devices={devices!r}, cores=1)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="the system has no /proc to find processes in")
@pytest.mark.slow
@pytest.mark.parametrize(("number", "devices"), [(signal.SIGKILL, "cpu,cpu"), (signal.SIGTERM, "cpu")])
def test_no_process_outlives_a_scan_that_was_ended(pictures, tmp_path, whole, number, devices):
    (tmp_path / "f").mkdir()
    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    code = STOPPED.format(
        tests=tests, folder=str(tmp_path / "f"), pictures=str(pictures), out=str(tmp_path / "i"), devices=devices
    )
    running = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    count = len(devices.split(","))
    while len(list((tmp_path / "f").iterdir())) < count and running.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    assert len(list((tmp_path / "f").iterdir())) == count  # all are in the middle of a shard
    workers = children(running.pid)
    running.send_signal(number)
    _, told = running.communicate(timeout=60)
    assert len(workers) == count, told
    until = time.monotonic() + 30
    while any(os.path.exists(f"/proc/{pid}/cmdline") and state(pid) != "Z" for pid in workers) and time.monotonic() < until:
        time.sleep(0.05)
    assert not [pid for pid in workers if os.path.exists(f"/proc/{pid}") and state(pid) != "Z"]
    assert list((tmp_path / "i" / "shards").glob("*.safetensors"))  # what was whole stays
    unconv.scan(faulty(), pictures, tmp_path / "i", batch=4, shard=8)
    assert hashes(tmp_path / "i") == whole


def children(pid):
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and parent(entry) == pid:
            found.append(int(entry))
    return found


def state(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def parent(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return -1


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_two_processes_on_a_gpu_write_what_one_does(pictures, tmp_path):
    for name, devices in (("one", "cuda:0"), ("two", "cuda:0,cuda:0")):
        unconv.scan(small(), pictures, tmp_path / name, batch=4, shard=8, devices=devices)
    assert known_run(tmp_path / "one")["device"] == "cuda"
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
