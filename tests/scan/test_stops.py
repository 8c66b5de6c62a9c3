"""Scans that are killed, stopped, or shared: what is whole stays, and the end is the same to the byte."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import unconv
from cases.scans import save_pictures, small
from unconv.scan import scan_part
from unconv.scan.scanning import Job, scan_shard

KILLS = Path(__file__).parents[1] / "cases" / "scan_kills.py"
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")


def killed(tmp_path, every):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", str(KILLS), str(tmp_path), str(every)]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@needs_fork
def test_a_scan_that_was_killed_ends_with_the_same_bytes(tmp_path):
    found = killed(tmp_path, 13)
    assert len(found) > 5
    assert set(found) == {"same"}


@needs_fork
@pytest.mark.slow
def test_a_scan_killed_at_every_third_step_ends_with_the_same_bytes(tmp_path):
    found = killed(tmp_path, 3)
    assert len(found) > 15
    assert set(found) == {"same"}


@pytest.mark.skipif(sys.platform == "win32", reason="the system knows no SIGTERM")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_scan_that_is_stopped_leaves_whole_shards_and_goes_on(tmp_path, number):
    save_pictures(tmp_path / "p", 64, side=100)
    arguments = ["unconv", "index", "unconv:caltech", "p", "-o", "i", "--at", "features.23", "-q", "--batch", "1"]
    code = f"import sys; sys.argv = {arguments}\n"
    code += "from unconv.scan import data_set\nimport unconv.cli\ndata_set.scan_part.__wrapped__.__kwdefaults__['shard'] = 8\n"
    code += "unconv.cli.main()"
    running = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not list((tmp_path / "i" / "shards").glob("*.safetensors")) and time.monotonic() < until:
        time.sleep(0.05)
    running.send_signal(number)
    _, told = running.communicate(timeout=60)
    assert running.returncode == (143 if number == signal.SIGTERM else 130), told
    assert "unconv: stopped." in told
    shards = sorted((tmp_path / "i" / "shards").iterdir())
    assert shards and all(path.suffix == ".safetensors" for path in shards)
    with pytest.raises(unconv.ScanError, match="not complete"):
        unconv.Index(tmp_path / "i")
    index = unconv.scan(unconv.load("unconv:caltech"), tmp_path / "p", tmp_path / "i", ["features.23"], batch=1, shard=8)
    assert len(index.pictures()) == 64


def test_two_at_once_share_the_work_and_end_alike(pictures, tmp_path):
    found = []

    def run(network):
        found.append(unconv.scan(network, pictures, tmp_path, batch=4, shard=4))

    threads = [threading.Thread(target=run, args=[small()]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert found[0].top("4", 1) == found[1].top("4", 1)
    assert not list(tmp_path.rglob("*.lock"))


def test_a_full_disk_is_said_and_nothing_half_stays(pictures, tmp_path, monkeypatch):
    import errno

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(unconv.WriteError, match=r"No space left on device\. Make room"):
        unconv.scan(small(), pictures, tmp_path / "i", batch=4, shard=16)
    monkeypatch.undo()
    assert not [path for path in (tmp_path / "i").rglob("*") if path.is_file()]


def test_a_shard_is_a_function_of_its_pictures_alone(network, pictures, tmp_path):
    from unconv.reverse.maps import Maps
    from unconv.scan.opening import open_pictures

    listing = open_pictures(pictures)
    job = Job(network, Maps(network, None, 4), tmp_path, "run", listing.entries, listing.read, 2, 8, 16, False, True)
    once, again = (scan_shard(job, 1, job.part(1)) for _ in range(2))
    assert once.content.tolist() == again.content.tolist() and once.pictures == again.pictures
    assert (once.top.places[1].strongest.value == again.top.places[1].strongest.value).all()


def test_the_parts_must_be_named_as_such(network, pictures, tmp_path):
    for part in ("0/3", "4/3", "half", "1"):
        with pytest.raises(unconv.ShapeError, match="such as 3/16"):
            scan_part(network, pictures, tmp_path, part, batch=4, shard=16)
