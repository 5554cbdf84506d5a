"""What a file is, told from its first bytes and never from its name."""

WEB_PAGE = "a web page"
HEAD_BYTES = 512  # enough for every mark below; tar's stands last, at 257

# offset, mark and noun
_PICTURE_MARKS = (
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (8, b"WEBP", "a WebP picture"),
    (0, b"GIF87a", "a GIF picture"),
    (0, b"GIF89a", "a GIF picture"),
    (0, b"II*\x00", "a TIFF picture"),
    (0, b"MM\x00*", "a TIFF picture"),
    (0, b"II+\x00", "a TIFF picture"),
    (0, b"MM\x00+", "a TIFF picture"),
    (0, b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 picture"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
)
_BITMAP_HEADER_SIZES = (12, 40, 52, 56, 64, 108, 124)  # b"BM" alone may begin a text
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")

_UNPACK = "Unpack it and zip the pictures themselves."
_CONVERT = "Save it as JPEG, PNG or WebP."
_THEMSELVES = "Send the pictures themselves."
# offset, mark, noun and what to do
_OTHER_MARKS = (
    (0, b"PK\x03\x04", "a zip", _UNPACK),
    (0, b"PK\x05\x06", "an empty zip", "Put pictures into it."),
    (0, b"Rar!", "a RAR archive", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (0, b"\x1f\x8b", "a gzip or tar.gz archive", _UNPACK),
    (0, b"BZh", "a bzip2 archive", _UNPACK),
    (0, b"\xfd7zXZ", "an xz archive", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive", _UNPACK),
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"%PDF", "a PDF", "Save its pictures as JPEG or PNG."),
    (0, b"%!PS", "a PostScript drawing", _CONVERT),
    (0, b"8BPS", "a Photoshop file", _CONVERT),
    (0, b"\xff\x0a", "a JPEG XL picture", _CONVERT),
    (0, b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture", _CONVERT),
    (0, b"\x00\x00\x01\x00", "an icon file", _CONVERT),
    (4, b"ftypcrx ", "a camera's raw file", "Export it as JPEG."),
    (4, b"ftyp", "a video", "Send still pictures."),
    (0, b"\x1aE\xdf\xa3", "a video", "Send still pictures."),
)


def picture_kind(head: bytes) -> str:
    """First bytes -> "a JPEG picture" and the like, or "" for what cannot be read as a picture."""
    for offset, mark, noun in _PICTURE_MARKS:
        if head.startswith(mark, offset):
            return noun
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BITMAP_HEADER_SIZES:
        return "a BMP picture"
    if head.startswith(b"ftyp", 4) and head[8:12] in _HEIF_BRANDS:
        return "a HEIC picture"
    if head.startswith(b"ftyp", 4) and head[8:12] in _AVIF_BRANDS:
        return "an AVIF picture"
    return ""


def is_archive(head: bytes) -> bool:
    """First bytes -> whether this is, or claims to be, an archive that is unpacked here."""
    return is_zip(head) or is_tar(head) or is_gzip(head)


def is_zip(head: bytes) -> bool:
    """Of any kind: empty ones, and parts of one in several, begin in their own ways."""
    return head.startswith(b"PK")


def is_tar(head: bytes) -> bool:
    return head.startswith(b"ustar", 257)


def is_gzip(head: bytes) -> bool:
    return head.startswith(b"\x1f\x8b")


def describe(head: bytes) -> tuple[str, str]:
    """First bytes of what is no picture -> what it is, and what to do: ("a RAR archive", "...")."""
    if not head:
        return "an empty file", "It may have been cut off on its way: send it again."
    for offset, mark, noun, advice in _OTHER_MARKS:
        if head.startswith(mark, offset):
            return noun, advice
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in start:
        return "an SVG drawing", _CONVERT
    if start.startswith(b"<?xml") and b"<html" not in start:
        return "an XML file", _THEMSELVES
    if start.startswith(b"<"):
        return WEB_PAGE, _THEMSELVES
    if _is_text(head):
        return "a text", _THEMSELVES
    return "a file of an unknown kind", _CONVERT


def _is_text(head: bytes) -> bool:
    return not any(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head)
