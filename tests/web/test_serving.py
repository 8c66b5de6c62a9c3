"""Laws of the live page: who is let in, what is answered, and that nobody's request harms another's."""

from __future__ import annotations

import asyncio
import base64
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from PIL import Image

import unconv
from cases.servers import TOKEN, Server, picture_bytes
from cases.sites import scan_strange, wide
from unconv.pictures.decode import open_picture
from unconv.reverse.trust import trust
from unconv.web import Live, application, serving, write_site
from unconv.web.queue import Busy, Left, Queue

pytest.importorskip("uvicorn")


@pytest.fixture(scope="module")
def scanned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    index = scan_strange(folder)
    write_site(index, folder / "site")
    (folder / "site" / "act" / "link.html").symlink_to("/etc/passwd")
    (folder / "secret.txt").write_text("a secret")
    return folder, index


@pytest.fixture(scope="module")
def server(scanned):
    folder, index = scanned
    made = Server(Live(index.network, index), folder / "site")
    yield made
    made.close()


def decoded(address):
    return Image.open(io.BytesIO(base64.b64decode(address.split(",", 1)[1])))


# Who is let in


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x", "\u00fc"])
@pytest.mark.parametrize("path", ["/", "/live", "/live/facts", "/act/1.html", "/style.css"])
def test_nothing_is_told_to_who_has_no_token(server, token, path):
    status, _, content = server.ask(path, token=token.encode("utf-8").decode("latin-1"))
    assert status == 403 and b"with its token" in content


def test_the_first_address_leaves_a_cookie_and_loses_its_token(server):
    status, headers, _ = server.ask(f"/act/1.html?token={TOKEN}&x=1", token="")
    assert (status, headers["location"]) == (303, "/act/1.html?x=1")
    assert "HttpOnly" in headers["set-cookie"] and "SameSite=Strict" in headers["set-cookie"]
    status, headers, _ = server.ask(f"//elsewhere.example/?token={TOKEN}", token="")
    assert headers["location"].startswith("/e")
    assert server.ask("/?token=wrong", token="")[0] == 403


def test_cookies_of_other_servers_on_this_machine_do_no_harm(server):
    foreign = f'prefs={{"a": 1}}; a:b[c]=1; unconv-1=wrong; unconv-{server.port}={TOKEN}; x@y'
    assert server.ask("/live/facts", token="", cookie=foreign)[0] == 200
    assert server.ask("/live/facts", token="", cookie=f"unconv-1={TOKEN}")[0] == 403


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example", "", "127.0.0.1.:80"])
def test_a_name_that_was_made_to_lead_here_is_refused(server, host):
    status, _, content = server.ask("/live/facts", host=host)
    assert status in (400, 421) and b"places" not in content


@pytest.mark.parametrize("headers", [{"origin": "http://evil.example"}, {"origin": "null"}, {"sec_fetch_site": "cross-site"}])
def test_a_foreign_page_hands_nothing_over(server, headers):
    assert server.ask("/live/pictures", "POST", picture_bytes(), **headers)[0] == 403
    assert server.ask("/live/pictures/1/0/0", **headers)[0] == 403


@pytest.mark.parametrize("path", ["/", "/live", "/live.js", "/nowhere", "/live/facts", "/act/1.webp"])
def test_every_answer_forbids_scripts_from_elsewhere_and_frames(server, path):
    _, headers, _ = server.ask(path)
    policy = headers["content-security-policy"]
    scripts = next(part for part in policy.split(";") if "script-src" in part)
    assert scripts.strip() == "script-src 'self'"
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e/secret.txt",
        "/act/../../secret.txt",
        "/act/%2e%2e/%2e%2e/secret.txt",
        "//etc/passwd",
        "/act/link.html",
        "/%5c..%5csecret.txt",
        "/act/1.html%00.webp",
        "/etc/passwd",
        "/site.json/../../secret.txt",
    ],
)
def test_no_file_of_the_machine_is_given_away(server, path):
    status, _, content = server.ask(path)
    assert status in (400, 404) and b"secret" not in content and b"root:" not in content


# What is answered


def test_the_pages_are_those_of_the_site_with_a_way_to_the_live_page(scanned, server):
    site = scanned[0] / "site"
    for path in site.rglob("*"):
        if path.is_symlink() or not path.is_file():
            continue
        name = path.relative_to(site).as_posix()
        status, _, content = server.ask("/" + name)
        assert status == 200
        lines = [line for line in content.splitlines() if b'class="way-in"' not in line] if path.suffix == ".html" else None
        assert content == path.read_bytes() if lines is None else lines == path.read_bytes().splitlines()
    assert b'href="/live#act/1"' in server.ask("/act/1.html")[2]


def test_answers_are_those_of_the_library(scanned, server):
    _, index = scanned
    data = picture_bytes()
    found = server.json("/live/pictures", "POST", data)
    source = Image.open(io.BytesIO(data))
    assert found["size"] == [24, 24]
    recording = index.network.record(source, index.places)
    for place, units in enumerate(found["units"]):
        maxima = recording.activation(index.places[place]).reshape(index.run["places"][place]["channels"], -1).max(1).values
        for unit in units:
            assert unit["value"] == float(maxima[unit["channel"]])
    best = index.fires(source, n=10**6)
    for place, units in enumerate(found["units"]):
        wanted = [(f.channel, f.share) for f in best if f.place == index.places[place]][:9]
        assert [(unit["channel"], unit["share"]) for unit in units] == wanted
    told = server.json(f"/live/pictures/{found['picture']}/0/1?method=gradient&trace=1")
    one = index.network.project(source, "act", [1], method="gradient", trace=True)[0]
    assert told["value"] == one.value and tuple(told["box"]) == one.box
    assert told["position"] == list(one.unit[1:])
    assert [step["place"] for step in told["way"]] == [signal.place for signal in one.signals]
    assert decoded(told["projection"]).size == (3, 3)


def test_a_region_s_units_are_those_of_the_index(scanned, server):
    _, index = scanned
    data = picture_bytes(seed=3)
    number = server.json("/live/pictures", "POST", data)["picture"]
    region = (4, 4, 12, 20)
    units = server.json(f"/live/pictures/{number}/units?region=4,4,12,20")["units"]
    wanted = index.fires(Image.open(io.BytesIO(data)), region, n=10**6)
    for place, some in enumerate(units):
        there = [(f.channel, f.share, list(f.position)) for f in wanted if f.place == index.places[place]][:9]
        assert [(unit["channel"], unit["share"], unit["position"]) for unit in some] == there


def test_a_unit_is_projected_where_it_was_asked_for(scanned, server):
    _, index = scanned
    data = picture_bytes(seed=4)
    number = server.json("/live/pictures", "POST", data)["picture"]
    told = server.json(f"/live/pictures/{number}/0/1?at=5,17")
    one = index.network.project(Image.open(io.BytesIO(data)), "act", [1], (5, 17))[0]
    assert (told["value"], told["position"], tuple(told["box"])) == (one.value, [5, 17], one.box)


def test_trust_is_the_library_s(scanned, server):
    _, index = scanned
    data = picture_bytes(seed=4)
    number = server.json("/live/pictures", "POST", data)["picture"]
    told = server.json(f"/live/pictures/{number}/0/1/trust?at=5,17")
    recording = index.network.record(Image.open(io.BytesIO(data)), index.places)
    units = recording.units("act", [1], (5, 17))
    assert told == json.loads(json.dumps(next(trust(recording, units, units.all())).numbers()))


@pytest.mark.parametrize(
    "path, said",
    [
        ("/live/pictures/{}/0/0/trust?at=99,99", "99"),
        ("/live/pictures/{}/0/0?at=99,99", "99"),
        ("/live/pictures/{}/0/0?at=x", "y,x"),
        ("/live/pictures/{}/0/99", "channel"),
        ("/live/pictures/{}/99/0", "no place 99"),
        ("/live/pictures/{}/0/0?method=magic", "no method 'magic'"),
        ("/live/pictures/999999/0/0", "not in memory any more"),
        ("/live/pictures/{}/units?region=1,2", "region"),
        ("/live/pictures/{}/units?region=9,9,1,1", "region"),
        ("/live/pictures/{}/units?region=a,b,c,d", "four numbers"),
    ],
)
def test_what_is_not_there_is_answered_in_words(server, path, said):
    number = server.json("/live/pictures", "POST", picture_bytes())["picture"]
    status, _, content = server.ask(path.format(number))
    assert status == 400 and said in json.loads(content)["error"]


def bomb():
    buffer = io.BytesIO()
    Image.new("1", (20000, 20000)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [b"", b"GIF89a", os.urandom(2000), picture_bytes()[:300], b"<svg xmlns='http://www.w3.org/2000/svg'/>", bomb()],
    ids=["empty", "begun", "noise", "cut", "svg", "bomb"],
)
def test_what_is_no_picture_is_refused_and_the_next_one_is_taken(server, data):
    status, _, content = server.ask("/live/pictures", "POST", data)
    assert status == 422 and json.loads(content)["error"]
    assert server.ask("/live/pictures", "POST", picture_bytes())[0] == 200


def test_an_upload_without_end_is_cut_off(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as raw:
        head = f"POST /live/pictures HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nCookie: unconv-{server.port}={TOKEN}\r\n"
        raw.sendall((head + "Transfer-Encoding: chunked\r\n\r\n").encode())
        chunk = b"100000\r\n" + bytes(2**20) + b"\r\n"
        sent = 0
        try:
            for _ in range(64):
                raw.sendall(chunk)
                sent += 1
        except OSError:
            pass
        answer = raw.recv(4096)
    assert answer.startswith(b"HTTP/1.1 413") or sent < 64
    assert server.ask("/live/pictures", "POST", picture_bytes())[0] == 200


def test_names_of_pictures_are_words(server):
    found = server.json("/live/pictures", "POST", picture_bytes(), x_name="%3Cscript%3Ealert(1)%3C%2Fscript%3E")
    assert found["name"] == "<script>alert(1)</script>"
    assert "innerHTML" not in server.ask("/live.js")[2].decode()


def test_two_hundred_at_once_get_the_right_answer_or_are_told_to_wait(scanned, server):
    _, index = scanned
    data = picture_bytes(seed=5)
    number = server.json("/live/pictures", "POST", data)["picture"]
    expected = [one.value for one in index.network.project(Image.open(io.BytesIO(data)), "act", "all")]
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda k: server.ask(f"/live/pictures/{number}/0/{k % 6}"), range(200)))
    served = 0
    for k, (status, _, content) in enumerate(answers):
        assert status in (200, 503)
        if status == 200:
            served += 1
            assert json.loads(content)["value"] == expected[k % 6]
    assert served >= 32


def test_a_slow_reader_keeps_nobody_waiting(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as slow:
        head = f"POST /live/pictures HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nCookie: unconv-{server.port}={TOKEN}\r\n"
        slow.sendall((head + "Content-Length: 100000\r\n\r\nabc").encode())
        begun = time.monotonic()
        assert server.ask("/live/pictures", "POST", picture_bytes())[0] == 200
        assert time.monotonic() - begun < 20


def test_readers_who_stop_in_the_middle_of_a_picture_do_not_keep_others_from_handing_theirs_over(server, monkeypatch):
    monkeypatch.setattr(serving, "_PATIENCE", 1.0)
    head = f"POST /live/pictures HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nCookie: unconv-{server.port}={TOKEN}\r\n"
    stopped = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(12)]
    for raw in stopped:
        raw.sendall((head + "Content-Length: 100000\r\n\r\nabc").encode())
    time.sleep(0.3)
    assert server.ask("/live/pictures", "POST", picture_bytes())[0] == 200
    assert stopped[0].recv(100).startswith(b"HTTP/1.1 408")
    for raw in stopped:
        raw.close()


def test_progress_tells_how_many_wait(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", "/live/progress", headers={"cookie": f"unconv-{server.port}={TOKEN}"})
    assert connection.getresponse().readline() == b"data: 0\n"
    connection.close()


def test_only_the_last_pictures_are_kept(server):
    numbers = [server.json("/live/pictures", "POST", picture_bytes(seed=k))["picture"] for k in range(30)]
    assert server.json("/live/pictures", "POST", picture_bytes(seed=29))["picture"] == numbers[-1]
    assert server.ask(f"/live/pictures/{numbers[0]}/0/0")[0] == 400
    assert server.ask(f"/live/pictures/{numbers[-1]}/0/0")[0] == 200


def test_a_model_alone_is_served(tmp_path):
    made = Server(Live(wide()), None)
    try:
        status, headers, _ = made.ask("/")
        assert (status, headers["location"]) == (303, "/live")
        found = made.json("/live/pictures", "POST", picture_bytes())
        assert all(unit["share"] is None for units in found["units"] for unit in units)
        values = [unit["value"] for unit in found["units"][0]]
        assert values == sorted(values, reverse=True)
    finally:
        made.close()


def test_a_site_of_another_scan_or_half_a_one_is_refused(scanned, tmp_path):
    folder, index = scanned
    with pytest.raises(unconv.UnconvError, match="that of another scan"):
        application(Live(index.network), folder / "site", TOKEN, set())
    (tmp_path / "site.json").write_text('{"whole": false, "index": ""}')
    with pytest.raises(unconv.UnconvError, match="no complete site"):
        application(Live(index.network, index), tmp_path, TOKEN, set())


def test_a_network_without_pictures_is_refused():
    module = torch.nn.Sequential(torch.nn.Conv1d(1, 2, 3), torch.nn.ReLU()).eval()
    with pytest.raises(unconv.ShapeError, match="takes no pictures"):
        Live(unconv.Network(module, None, (1, 16)))


# The queue


def test_work_of_a_reader_who_has_left_is_not_begun():
    done = []

    async def run():
        queue, hold = Queue(), threading.Event()

        async def stays():
            return False

        async def leaves():
            return True

        first = asyncio.create_task(queue.run(hold.wait, stays))
        await asyncio.sleep(0.01)
        with pytest.raises(Left):
            await queue.run(lambda: done.append(1), leaves)
        hold.set()
        assert await first
        assert await queue.run(lambda: 7, stays) == 7
        assert queue.waiting == 0

    asyncio.run(run())
    assert done == []


def test_a_full_queue_says_so():
    async def run():
        queue, hold = Queue(most=2), threading.Event()

        async def stays():
            return False

        tasks = [asyncio.create_task(queue.run(hold.wait, stays)) for _ in range(2)]
        await asyncio.sleep(0.01)
        with pytest.raises(Busy):
            await queue.run(lambda: 1, stays)
        hold.set()
        await asyncio.gather(*tasks)

    asyncio.run(run())


# The command


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_command_prints_its_address_and_ends_when_told_to_though_a_page_is_open(tmp_path, stop):
    code = "from unconv.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", "unconv:caltech"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().split(" at ")[1].strip()
        assert address.startswith("http://127.0.0.1:") and "?token=" in address
        host, path = address.removeprefix("http://").split("/", 1)
        connection = http.client.HTTPConnection(host, timeout=20)
        connection.request("GET", "/" + path)
        answer = connection.getresponse()
        assert answer.status == 303
        cookie = answer.getheader("set-cookie").split(";")[0]
        answer.read()
        connection.request("GET", "/live/progress", headers={"cookie": cookie})
        assert connection.getresponse().readline() == b"data: 0\n"
        process.send_signal(stop)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
        connection.close()
    assert "Traceback" not in err + out


def test_a_port_that_is_taken_and_every_address_at_once_are_refused(unconv_command):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        status, _, err = unconv_command("serve", "unconv:caltech", "--port", port)
    assert status == 1 and "Another program listens there" in err
    for host in ("0.0.0.0", "", "0"):
        status, _, err = unconv_command("serve", "unconv:caltech", "--host", host)
        assert status == 1 and "means every address at once" in err


def test_options_that_open_a_model_are_refused_with_a_scan(scanned, unconv_command):
    status, _, err = unconv_command("serve", scanned[0] / "index", "--mean", "0.5")
    assert status == 1 and "--mean is for models" in err


def test_open_picture_reads_what_the_page_hands_over():
    assert open_picture(Image.open(io.BytesIO(picture_bytes(kind="JPEG")))).size == (40, 40)
