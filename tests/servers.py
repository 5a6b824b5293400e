"""An HTTP server of a folder that fails as it is told to."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

Fault = Literal["drop", "cut", "wrong", "503", "403"]
"""drop: the connection ends in the middle; cut: half the body, and a Content-Length that says so;
wrong: one byte is another."""


class Server:
    """Serves ``folder``; ``faults[name]`` are what the next requests of a file meet.

    ``raw[name]`` makes the pieces of the answer itself, head and all, ``drip`` seconds apart.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.url = folder, f"http://127.0.0.1:{port}"
        self.gets: Counter[str] = Counter()
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.raw: dict[str, Callable[[], Iterable[bytes]]] = {}
        self.sized, self.pause, self.drip = True, 0.0, 0.0


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A :class:`Server` on a free port of this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as http:
        http.daemon_threads = True
        server = Server(folder, http.server_address[1])
        http.about = server  # type: ignore[attr-defined]
        threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        http.shutdown()


class _Handler(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        about: Server = self.server.about  # type: ignore[attr-defined]
        name = unquote(urlsplit(self.path).path).removeprefix("/")
        about.gets[name] += body
        if name in about.raw:
            self._drip(about.raw[name](), about.drip)
            return
        path = about.folder / name
        fault = about.faults[name].pop(0) if about.faults[name] else None
        if fault in ("503", "403") or not path.is_file():
            self.send_error(int(fault) if fault in ("503", "403") else 404)
            return
        data = path.read_bytes()
        if fault == "cut":
            data = data[: len(data) // 2]
        if fault == "wrong":
            data = data[:-1] + bytes([data[-1] ^ 1])
        self.send_response(200)
        if about.sized:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            time.sleep(about.pause)
            self.wfile.write(data[: len(data) // 2] if fault == "drop" else data)

    def _drip(self, pieces: Iterable[bytes], pause: float) -> None:
        self.close_connection = True
        with suppress(ConnectionError):  # who asked has gone
            for piece in pieces:
                self.wfile.write(piece)
                time.sleep(pause)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
