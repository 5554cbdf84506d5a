"""What a caller can correct about a LoRA file."""


class FormatError(ValueError):
    """The file is not what its format promises; the message says what was found."""
