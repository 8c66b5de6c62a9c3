"""Scans on Ray, each in a process of its own: workers killed, hanging and failing, a machine lost, clusters refused."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

import unconv
from cases.scans import small
from unconv.scan.clusters import ray_library

CASES = Path(__file__).parents[1] / "cases" / "scan_ray.py"
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")


def alone_possible():
    """Whether this user may run a program without a network but its own loopback."""
    if not (shutil.which("unshare") and shutil.which("ip")):
        return False
    return subprocess.run(["unshare", "-n", "ip", "link", "set", "lo", "up"], capture_output=True).returncode == 0


needs_root = pytest.mark.skipif(not alone_possible(), reason="`unshare -n` needs root, and `ip`")


on_demand = pytest.mark.skipif(not os.environ.get("UNCONV_CLUSTERS"), reason="takes a minute; set UNCONV_CLUSTERS=1 to run it")


def scanned(tmp_path, which, **environment):
    code = f'ip link set lo up; exec "$@"; : {which}'
    with tempfile.TemporaryDirectory(prefix="ray") as short:  # Ray's sockets lie in it, whose names have a limit
        own = os.environ | {"OMP_NUM_THREADS": "1", "RAY_TMPDIR": short, "HOME": short} | environment
        script = [sys.executable, "-W", "ignore", str(CASES), str(tmp_path), which]
        command = script if which == "workers" else ["unshare", "-n", "sh", "-c", code, "sh", *script]
        ran = subprocess.run(command, capture_output=True, text=True, env=own, timeout=300)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return json.loads(ran.stdout.splitlines()[-1])


def test_ray_that_is_missing_or_too_old_is_said(pictures, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(unconv.ScanError, match=r'ray is not installed, but was asked for: pip install "unconv\[ray\]"'):
        unconv.scan(small(), pictures, tmp_path, batch=4, shard=8, ray="local")
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(__version__="2.58.1"))
    with pytest.raises(unconv.ScanError, match=r"ray 2\.58\.1 came, but 2\.59 or later was needed"):
        ray_library()


def test_a_single_device_is_not_ray_s_matter(pictures, tmp_path):
    with pytest.raises(unconv.ShapeError, match="'cuda:0' came, but on Ray a kind was needed"):
        unconv.scan(small(), pictures, tmp_path, ray="local", devices="cuda:0")


@needs_ray
def test_an_address_that_cannot_be_right_is_refused(pictures, tmp_path):
    with pytest.raises(unconv.ScanError, match="a client's address, but host:port was needed"):
        unconv.scan(small(), pictures, tmp_path, batch=4, shard=8, ray="ray://head:10001")


@needs_ray
@pytest.mark.slow
def test_workers_that_are_killed_fail_or_hang_change_no_byte(tmp_path):
    found = scanned(tmp_path, "workers")
    assert found["faults"] == ["0.kill", "1.raise", "2.wait"]
    assert found["same"] and not found["rests"] and not found["running"]
    assert "CPUs are free; starting" in found["told"]


@needs_ray
@needs_root
@on_demand
@pytest.mark.slow
def test_a_machine_that_is_lost_changes_no_byte(tmp_path):
    found = scanned(tmp_path, "node", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0123456789abcdef" * 4)
    assert found["faults"] == ["0.pause", "1.pause"] and found["removed"] == 1
    assert found["same"] and not found["rests"]


@needs_ray
@needs_root
@on_demand
@pytest.mark.slow
def test_a_cluster_without_a_token_or_without_room_is_refused(tmp_path):
    found = scanned(tmp_path, "open", RAY_AUTH_MODE="disabled")
    assert "asks for no token: whoever reaches it can run programs on all its machines" in found["refused"][0]
    assert "1 of 1 CPUs are free, but a worker needs 3 CPU" in found["refused"][1]
    assert not found["running"]
