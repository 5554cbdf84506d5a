"""How the commands read what was typed."""

import argparse
import os
from pathlib import Path
from typing import NoReturn

from training.settings import SettingsError


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raises: SettingsError: one sentence, as every other mistake is told."""
        raise SettingsError(f"{message[0].upper()}{message[1:]}. See {self.prog} --help.")


def path_of(typed: str) -> Path:
    """No shell replaces the ~ of `--out=~/lora.safetensors`: it would become a folder's name."""
    return Path(os.path.expanduser(typed))  # noqa: PTH111, Path has ./~ and ~ for the same
