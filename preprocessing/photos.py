"""The bytes of a photo -> an upright sRGB image -> the part of it that is trained on."""

import io
import math
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pi_heif  # type: ignore[import-untyped]
from PIL import ExifTags, Image, ImageCms, ImageOps, PngImagePlugin
from PIL.TiffImagePlugin import TiffImageFile

from preprocessing.crops import Box
from preprocessing.errors import PhotoError
from preprocessing.kinds import picture_kind
from preprocessing.limits import MAX_ENLARGEMENT, MAX_PIXELS, MAX_PIXELS_SCALABLE

pi_heif.register_heif_opener(thumbnails=False)
Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit only warns at first; see _check_size

# What programs write beside the pixels, packed: by default Pillow refuses a photo for 1 MiB of it.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY

# Not the dozens of rare formats that Pillow also knows. Phones' multi-picture files open as JPEG.
_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "BMP", "TIFF", "GIF", "JPEG2000")
_JPEGS = ("JPEG", "MPO")
_CAMERA_FORMATS = (*_JPEGS, "HEIF")  # here further frames are depth maps and the like

# JPEGs can be decoded at a half, quarter or eighth of their size, in a fraction of the time, and
# others made smaller before the slow steps. So many times the resolution is left for Lanczos to
# choose from: the result differs by about one level of 255 from that of all pixels, as Pillow's
# default filter does (docs/performance.md). 1.4 lets 12 megapixels become 512 from a quarter.
_LEAST_DRAFTED = 1.4
_LEAST_REDUCED = 2
_REDUCING_GAP = 3.0  # plain Lanczos to the eye, at half the time for a camera's photo

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_QUARTER_TURNS = (5, 6, 7, 8)

_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
_PROFILE_MODES = {"RGB": ("RGB", "RGBA"), "CMYK": ("CMYK",), "GRAY": ("L",)}
_DEEP_MODES = ("I;16", "I;16B", "I;16L", "I", "F")
_LEAST_OPACITY = 8  # of 255, of the least transparent pixel: below it nobody sees anything
# TIFF's NewSubfileType, BitsPerSample, PhotometricInterpretation and PlanarConfiguration
_THUMBNAIL_TAG, _THUMBNAIL_FLAG = 254, 1
_BITS_TAG = 258
_MEANING_TAG, _ZERO_IS_WHITE = 262, 0
_PLANES_TAG, _ARE_APART = 284, 2


@dataclass(frozen=True, kw_only=True)
class Photo:
    """A decoded photo.

    Attributes:
        image: RGB, upright, sRGB; it may be smaller than `size`.
        alpha: how opaque each of its pixels is, mode L, the image's size; None if all are.
        size: width and height of the upright photo in pixels, as it was sent.
        remarks: what was done that its owner may want to know.
        taken: by its camera's clock, in seconds since some day; None if it does not say.
    """

    image: Image.Image
    alpha: Image.Image | None
    size: tuple[int, int]
    remarks: tuple[str, ...]
    taken: float | None


def read_photo(data: bytes, resolution: int, headroom: int = 1) -> Photo:
    """The bytes of a picture of any accepted format, to be used at `resolution` pixels a side.

    It may come out smaller than it is, but its shorter side keeps `headroom` times the
    resolution if it had them: as much as a crop may take away, and no less than 1.4 if it is a
    JPEG, 2 if not.

    Takes as much time and memory as the picture asks for: what strangers send goes through
    `decoders.read_photo_apart`.

    Raises: PhotoError, for what cannot be decoded, for too few or too many pixels, and for what
        is transparent everywhere.
    """
    try:
        return _decode(data, resolution, headroom)
    except PhotoError:
        raise
    except MemoryError as error:
        raise PhotoError("too large to be decoded. Send it smaller.") from error
    # Decoders raise whatever they like: OSError, SyntaxError, struct.error, ValueError, KeyError...
    except Exception as error:
        kind = picture_kind(data) or "a picture"
        raise PhotoError(
            f"{kind} that is damaged or cut off. Open it and save it again, or leave it out."
        ) from error


def resize(photo: Photo, box: Box, resolution: int) -> Image.Image:
    """The part of the photo in `box`, `resolution` pixels a side, by one Lanczos resampling.

    What has that size already keeps every bit.
    """
    horizontal = photo.image.width / photo.size[0]
    vertical = photo.image.height / photo.size[1]
    box = (box[0] * horizontal, box[1] * vertical, box[2] * horizontal, box[3] * vertical)
    return photo.image.resize(
        (resolution, resolution), Image.Resampling.LANCZOS, box=box, reducing_gap=_REDUCING_GAP
    )


def _decode(data: bytes, resolution: int, headroom: int) -> Photo:
    image = Image.open(io.BytesIO(data), formats=_FORMATS)
    header_size = image.size
    _check_size(image, resolution)
    if isinstance(image, TiffImageFile):
        _check_tags(image)
    remarks = []
    # (To count them would mean to read them all.)
    if getattr(image, "is_animated", False) and image.format not in _CAMERA_FORMATS:
        remarks.append("only the first of its frames or pages is used")
    is_scalable = image.format in _JPEGS
    if is_scalable:
        least = max(headroom, _LEAST_DRAFTED) * resolution
        image.draft(None, _draft_size(image.size, least))
    image.load()
    orientation = _read_orientation(image)
    size = header_size if is_scalable else image.size  # a HEIC's header does not know its turn
    size = size[::-1] if orientation in _QUARTER_TURNS else size
    flat, alpha, colour_remarks = _to_srgb(image, max(headroom, _LEAST_REDUCED) * resolution)
    return Photo(
        image=_turn(flat, orientation),
        alpha=_turn(alpha, orientation) if alpha else None,
        size=size,
        remarks=(*remarks, *colour_remarks),
        taken=_read_time(image),
    )


def _check_size(image: Image.Image, resolution: int) -> None:
    """Before anything is decoded: the header tells. Raises: PhotoError."""
    width, height = image.size
    if min(width, height) * MAX_ENLARGEMENT < resolution:
        raise PhotoError(
            f"{width} x {height} pixels is too small for resolution {resolution}: the shorter side"
            f" needs {-(-resolution // int(MAX_ENLARGEMENT))} at least, better {resolution}."
        )
    is_scalable = image.format in _JPEGS and not image.info.get("progressive")
    max_pixels = MAX_PIXELS_SCALABLE if is_scalable else MAX_PIXELS
    if width * height > max_pixels:
        raise PhotoError(
            f"{width} x {height} pixels is too large: at most {max_pixels // 1_000_000} megapixels."
            " Send it smaller."
        )


def _check_tags(image: TiffImageFile) -> None:
    """What Pillow would read as something else. Raises: PhotoError."""
    if image.tag_v2.get(_THUMBNAIL_TAG, 0) & _THUMBNAIL_FLAG:
        raise PhotoError("a camera's raw file. Export it as JPEG.")
    is_deep = max(image.tag_v2.get(_BITS_TAG, (1,))) > 8
    are_apart = image.tag_v2.get(_PLANES_TAG) == _ARE_APART
    if is_deep and are_apart and image.tile[0].codec_name == "raw":  # packed ones it reads right
        raise PhotoError(
            "a TIFF picture of 16 bits whose colours stand one after the other. Save it as PNG."
        )


def _draft_size(size: tuple[int, int], min_side: float) -> tuple[int, int]:
    """The least that Pillow may decode a JPEG at."""
    factor = min_side / min(size)
    return (math.ceil(size[0] * factor), math.ceil(size[1] * factor))


def _read_orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # broken EXIF fails in as many ways as broken pictures
        return 1
    return orientation if isinstance(orientation, int) else 1


def _turn(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else image


def _read_time(image: Image.Image) -> float | None:
    try:
        text = image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal]
        return datetime.strptime(text, "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
    except Exception:  # broken EXIF fails in as many ways as broken pictures
        return None


def _to_srgb(
    image: Image.Image, min_side: int
) -> tuple[Image.Image, Image.Image | None, tuple[str, ...]]:
    """Any mode -> RGB in sRGB on white; its alpha, if any of it is transparent; and remarks.

    What is much larger than `min_side` is made smaller first: colours take the longest.
    """
    remarks, alpha = [], None
    is_transparent = image.has_transparency_data
    profile = image.info.get("icc_profile")
    image = _to_eight_bits(image)
    if is_transparent:
        image = image.convert("RGBA")
    elif image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("RGB")
    if (factor := min(image.size) // min_side) > 1:
        image = image.reduce(factor)
    if profile:
        image, is_understood = _apply_profile(image, profile)
        if not is_understood:
            remarks.append("its colour profile cannot be read, so its colours are taken as sRGB")
    opacity = image.getchannel("A") if is_transparent else None
    if opacity and np.asarray(opacity).max() < _LEAST_OPACITY:
        raise PhotoError("transparent everywhere: it shows nothing. Leave it out.")
    if opacity and opacity.getextrema()[0] != 255:
        alpha = opacity
        remarks.append("transparent pixels filled with white")
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image)
        image = white
    return (image if image.mode == "RGB" else image.convert("RGB")), alpha, tuple(remarks)


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Pillow would clip 16-bit greys at 255 and turn fractions black: scale them instead."""
    if image.mode not in _DEEP_MODES:
        return image
    values = np.nan_to_num(np.asarray(image, dtype=np.float32), posinf=0.0, neginf=0.0)
    largest = float(values.max())
    # Wider modes do not say what their white is: the least usual one that holds every value.
    whites = (65535.0,) if image.mode.startswith("I;16") else (1.0, 255.0, 65535.0)
    white = next((white for white in whites if largest <= white), largest)
    grey = Image.fromarray((values.clip(0.0, white) * (255.0 / white) + 0.5).astype(np.uint8))
    # Pillow turns greys of 8 bits over, but not these.
    is_negative = (
        isinstance(image, TiffImageFile) and image.tag_v2.get(_MEANING_TAG) == _ZERO_IS_WHITE
    )
    return ImageOps.invert(grey) if is_negative else grey


def _apply_profile(image: Image.Image, profile: bytes) -> tuple[Image.Image, bool]:
    """The image in sRGB, and whether its profile was understood; otherwise the image as it is."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        # Even the identity would move some values by one.
        if "sRGB" in ImageCms.getProfileDescription(source):
            return image, True
        if image.mode not in _PROFILE_MODES.get(source.profile.xcolor_space.strip(), ()):
            return image, False
        output_mode = "RGBA" if image.mode == "RGBA" else "RGB"
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        converted = ImageCms.profileToProfile(image, source, _SRGB, intent, output_mode)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image, False
    assert converted is not None  # only with inPlace=True
    return converted, True
