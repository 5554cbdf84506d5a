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

REQUEST = struct.Struct("<QQQd")  # bytes of the picture, resolution, headroom, seconds of computing


def main() -> None:
    """Photos from standard input to standard output, until the other side closes."""
    warnings.simplefilter("ignore")
    max_bytes = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a decoder says in C must not mix with the answers
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


if __name__ == "__main__":
    main()
