"""A model hub on this machine: answers as the real one does for one revision of one repository.

Big files are elsewhere (a redirect, with hash and size beside it), small ones come at once; parts
of files are served, as a resumed download asks for them.
"""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ELSEWHERE = "/elsewhere/"


@dataclass
class Repository:
    """What the hub has, and how it misbehaves.

    Attributes:
        files: path on the hub -> contents.
        served: where the contents that come differ from those that were announced.
        cut_after: path -> the connection breaks when so many bytes of the file have gone out.
        refusal: answered to everything, as (status, the hub's code for it).
        is_circle: contents are redirected to where they were asked for, without end.
        ranges: (path, first byte) of every request for contents.
    """

    name: str
    revision: str
    files: dict[str, bytes]
    served: dict[str, bytes] = field(default_factory=dict)
    cut_after: dict[str, int] = field(default_factory=dict)
    refusal: tuple[int, str] | None = None
    is_circle: bool = False
    ranges: list[tuple[str, int]] = field(default_factory=list)
    tokens: list[tuple[str, str | None]] = field(default_factory=list)

    @property
    def prefix(self) -> str:
        return f"/{self.name}/resolve/{self.revision}/"


class Handler(BaseHTTPRequestHandler):
    server: "Hub"

    def do_HEAD(self) -> None:
        self.answer(is_head=True)

    def do_GET(self) -> None:
        self.answer(is_head=False)

    def answer(self, *, is_head: bool) -> None:
        repository = self.server.repository
        repository.tokens.append((self.path, self.headers.get("Authorization")))
        if repository.refusal:
            return self.refuse(*repository.refusal)
        is_elsewhere = self.path.startswith(ELSEWHERE)
        path = self.path.removeprefix(ELSEWHERE if is_elsewhere else repository.prefix)
        contents = repository.files.get(path)
        if contents is None:
            return self.refuse(404, "EntryNotFound")
        if is_elsewhere and repository.is_circle:
            return self.redirect(path, contents)
        if is_elsewhere or not path.endswith(".safetensors"):
            return self.send(path, contents, is_head=is_head)
        return self.redirect(path, contents)

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def redirect(self, path: str, contents: bytes) -> None:
        self.send_response(302)
        # By another name, so that it counts as another host.
        self.send_header("Location", f"http://localhost:{self.server.server_port}{ELSEWHERE}{path}")
        self.send_header("X-Linked-ETag", f'"{hashlib.sha256(contents).hexdigest()}"')
        self.send_header("X-Linked-Size", str(len(contents)))
        self.send_header("X-Repo-Commit", self.server.repository.revision)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send(self, path: str, contents: bytes, *, is_head: bool) -> None:
        repository = self.server.repository
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first = int(asked[1]) if asked else 0
        rest = repository.served.get(path, contents)[first:]
        self.send_response(206 if asked else 200)
        self.send_header("ETag", f'"{hashlib.sha1(contents).hexdigest()}"')
        self.send_header("X-Repo-Commit", repository.revision)
        self.send_header("Content-Length", str(len(rest)))
        if asked:
            last = len(contents) - 1
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(contents)}")
        self.end_headers()
        if is_head:
            return
        repository.ranges.append((path, first))
        limit = repository.cut_after.get(path)
        if limit is not None:
            rest = rest[: max(0, limit - first)]
            self.close_connection = True
        self.wfile.write(rest)

    def log_message(self, *args: object) -> None:
        """Not on the tests' terminal."""


class Hub(ThreadingHTTPServer):
    def __init__(self, repository: Repository) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repository = repository

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serve(repository: Repository) -> Iterator[Hub]:
    hub = Hub(repository)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
