"""Whom a server and all of its Python processes try to reach, beyond this machine."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

# Python runs a module of this name as it starts, before any other code.
_WATCHER = """
import ipaddress, os, sys

def is_near(host):
    host = host.decode() if isinstance(host, bytes) else host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in (None, "", "localhost")

def watch(event, arguments):
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if not is_near(host):
        with open(FILE, "a") as file:
            file.write(f"{event} {host} by {os.getpid()}\\n")

sys.addaudithook(watch)
"""
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@dataclass
class Outgoing:
    """Give `environment` to the server.

    Attributes:
        asked: first lines of what came to the proxy that the environment names, which is what
            programs that are not Python use too.
    """

    folder: Path
    port: int = 0
    asked: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        proxy = f"http://127.0.0.1:{self.port}"
        names = [*_PROXIES, *(name.lower() for name in _PROXIES)]
        near = {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
        return {"PYTHONPATH": str(self.folder), **dict.fromkeys(names, proxy), **near}

    def attempts(self) -> list[str]:
        """To look up or reach a host that is not this machine, in either way."""
        record = self.folder / "attempts.txt"
        lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
        return lines + self.asked


@contextmanager
def watch_outgoing(folder: Path) -> Iterator[Outgoing]:
    """`folder`: an empty one."""
    record = str(folder / "attempts.txt")
    (folder / "sitecustomize.py").write_text(_WATCHER.replace("FILE", repr(record)), "utf-8")
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        outgoing = Outgoing(folder, proxy.getsockname()[1])
        thread = threading.Thread(target=_listen, args=(proxy, outgoing.asked))
        thread.start()
        try:
            yield outgoing
        finally:
            proxy.shutdown(socket.SHUT_RDWR)
            thread.join()


def _listen(proxy: socket.socket, asked: list[str]) -> None:
    while True:
        try:
            connection, _ = proxy.accept()
        except OSError:  # it was shut down
            return
        with connection:
            asked.append(connection.recv(1000).decode("latin-1").partition("\r\n")[0])
