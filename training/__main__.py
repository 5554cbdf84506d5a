"""`python -m training` is `script/train`, so that `accelerate launch -m training` can start it."""

import os
import sys


def run() -> None:
    # Libraries read them when they are imported.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from cli.train import main
    from training.parallel import leave

    leave(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
