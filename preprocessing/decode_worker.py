"""The process in which photos are decoded: `python -m preprocessing.decode_worker BYTES`.

It may take that many bytes of memory, and for each photo the seconds that come with it; the kernel
ends it when it takes more. preprocessing/decoders.py holds the other end of the pipes.
"""

import os
import resource
import signal
import struct
import sys
import time
import warnings

from preprocessing.errors import PhotoError
from preprocessing.photo_pipe import send_photo, send_problem
from preprocessing.photos import read_photo

READY = b"+"  # its first word: it could start, and waits for photos
REQUEST = struct.Struct("<QQQd")  # bytes of the picture, resolution, headroom, seconds of computing


def main() -> None:
    """Photos from standard input to standard output, until the other side closes."""
    warnings.simplefilter("ignore")
    limit_memory(int(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "wb")
    keep_silent()
    answers.write(READY)
    answers.flush()
    while request := sys.stdin.buffer.read(REQUEST.size):
        num_bytes, resolution, headroom, max_seconds = REQUEST.unpack(request)
        data = sys.stdin.buffer.read(num_bytes)
        start = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, max_seconds)  # counts computing, not waiting
        try:
            photo = read_photo(data, resolution, headroom)
        except PhotoError as error:
            send_problem(answers, str(error), time.process_time() - start)
        else:
            send_photo(answers, photo, time.process_time() - start)
        signal.setitimer(signal.ITIMER_PROF, 0)


def limit_memory(max_bytes: int) -> None:
    """Or less, where the machine's owner allows less: a limit can only be lowered."""
    _, allowed = resource.getrlimit(resource.RLIMIT_AS)
    limit = max_bytes if allowed == resource.RLIM_INFINITY else min(max_bytes, allowed)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def keep_silent() -> None:
    """Decoders print what they think of a file: neither into the answers nor into a log."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)


if __name__ == "__main__":
    main()
