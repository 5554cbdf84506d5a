"""What a caller can correct about pictures, addresses and prompts."""


class PictureError(ValueError):
    """Shown to the caller as it is: what was wrong, what was found, what to do."""


class ArchiveError(PictureError):
    """The file that was sent is no zip, no picture, or not safe to unpack."""


class DownloadError(PictureError):
    """An address gave nothing that can be used."""


class PhotoError(PictureError):
    """One photo cannot be used."""


class PromptError(PictureError):
    """`custom_prompts`, or another list on the form, cannot be understood."""
