"""A live page that listens, and pictures to hand over to it."""

from __future__ import annotations

import http.client
import io
import json
import threading
import time

import numpy as np
from PIL import Image

from unconv.web import application

TOKEN = "the-token-of-this-run"


class Server:
    """An application that listens, and a reader of it."""

    def __init__(self, live, site):
        import uvicorn

        config = uvicorn.Config("", host="127.0.0.1", port=0, log_level="warning", limit_concurrency=256)
        self.socket = config.bind_socket()
        self.port = self.socket.getsockname()[1]
        config.app = application(live, site, TOKEN, {f"127.0.0.1:{self.port}", f"localhost:{self.port}"})
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def ask(self, path, method="GET", body=None, token=TOKEN, timeout=60, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.putrequest(method, path, skip_host="host" in headers, skip_accept_encoding=True)
            if token:
                connection.putheader("cookie", f"unconv-{self.port}={token}")
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            if body is not None:
                connection.putheader("content-length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def json(self, *args, **kwargs):
        status, _, content = self.ask(*args, **kwargs)
        assert status == 200, content
        return json.loads(content)

    def close(self):
        self.server.should_exit = True
        self.thread.join(20)
        self.socket.close()


def picture_bytes(side=40, seed=0, kind="PNG"):
    rng = np.random.default_rng(seed)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(buffer, kind)
    return buffer.getvalue()
