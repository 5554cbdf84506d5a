"""How the commands read what was typed."""

import argparse
from typing import NoReturn

from training.settings import SettingsError


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raises: SettingsError: one sentence, as every other mistake is told."""
        raise SettingsError(f"{message[0].upper()}{message[1:]}. See {self.prog} --help.")
