"""`script/serve`: the real Cog server, for this machine only."""

import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence

from cli.parser import Parser
from training.settings import SettingsError

HOST = "127.0.0.1"
LARGEST_PORT = 2**16 - 1


def main(arguments: Sequence[str]) -> int:
    parser = Parser(
        prog="script/serve",
        description="Serve the model at http://127.0.0.1:$PORT, default 5000, as on Replicate.",
        epilog="Other variables: BASE_MODEL, MAX_TRAINING_MINUTES, RUST_LOG.",
    )
    try:
        parser.parse_args(arguments)
        port = os.environ["PORT"]
        require_free(port)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    # In a process of its own: it needs the model's libraries, whose memory this one would keep.
    write_schema = [sys.executable, "-m", "cli", "schema"]
    if status := subprocess.run(write_schema, check=False, process_group=0).returncode:
        return status
    sys.stderr.write(f"http://{HOST}:{port}/health-check says READY when the model is loaded.\n")
    # The server hears Ctrl-C all the same, and ends its worker, which must not have ended before.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.argv = ["cog.server.http", "--host", HOST]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    return 0


def require_free(port: str) -> None:
    """Raises: SettingsError, when no server can listen there."""
    if not port.isdecimal() or not 0 < int(port) <= LARGEST_PORT:
        raise SettingsError(
            f"PORT must be a whole number from 1 to {LARGEST_PORT}; got {port[:40]!r}."
        )
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind((HOST, int(port)))
        except OSError as error:
            raise SettingsError(
                f"Port {port} cannot be used: {error.strerror}. Choose another:"
                " PORT=5001 script/serve"
            ) from error
