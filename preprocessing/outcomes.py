"""What one file comes to: squares that could be trained on, or why there are none."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from PIL import Image

from preprocessing.archive import File
from preprocessing.captions import Caption
from preprocessing.cuts import Cut, Cuts, OwnMask, cut_square, read_mask
from preprocessing.decoders import DecodeBudget, read_photo_apart
from preprocessing.errors import PhotoError
from preprocessing.photos import Photo
from preprocessing.quality import Look, look_at
from preprocessing.report import PhotoReport

# A photo, its owner's mask of it if any, and its position -> what could be trained on.
_Cutter = Callable[[Photo, Image.Image | None, int], Cuts]

# How many times the resolution a crop may need on the shorter side: a face's takes as little as a
# quarter of it, any other all of it.
_FACE_HEADROOM, _HEADROOM = 4, 1
_LEAST_MASK_HEADROOM = 2  # a mask is smoothed by less than a pixel of the square


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one file came to.

    Attributes:
        report: as far as it is known before all were seen.
        cuts: what could be trained on, the likeliest first; none if the file is skipped.
        is_picture: it counts as a picture for the custom prompts.
        caption: what its owner wrote about it.
        look: None if it was not decoded.
        source: as in `File`.
    """

    report: PhotoReport
    is_picture: bool
    caption: Caption | None
    cuts: tuple[Cut, ...] = ()
    look: Look | None = None
    source: int = 0


def file_reader(task: str, resolution: int) -> Callable[[tuple[int, File]], tuple[Outcome, ...]]:
    """What reads the files of one set: a file and its number -> what it came to.

    It may be called by several threads. All files share one budget of time.
    """
    headroom = _FACE_HEADROOM if task == "face" else _HEADROOM
    decode = partial(read_photo_apart, budget=DecodeBudget())
    return partial(
        _read,
        decode=partial(decode, resolution=resolution, headroom=headroom),
        # A mask may be smaller than any photo: it has no details.
        decode_mask=partial(
            decode, resolution=1, headroom=max(headroom, _LEAST_MASK_HEADROOM) * resolution
        ),
        cut=_cutter(task, resolution),
    )


def _read(
    numbered_file: tuple[int, File],
    *,
    decode: Callable[[bytes], Photo],
    decode_mask: Callable[[bytes], Photo],
    cut: _Cutter,
) -> tuple[Outcome, ...]:
    """Decode a file, and cut out what could be trained on: the whole photo is too large to keep.

    What is named like its mask, but is a picture, comes to something by itself.
    """
    position, file = numbered_file
    try:
        if file.problem:
            raise PhotoError(file.problem)
        photo = decode(file.data)
    except PhotoError as error:
        outcome = _skipped(position, file, str(error))
        own_mask = read_mask(None, file.mask, decode_mask)
    else:
        own_mask = read_mask(photo, file.mask, decode_mask)
        outcome = _cut(position, file, photo, own_mask, cut)
    if not own_mask.is_picture:
        return (outcome,)
    picture = File(
        name=file.mask_name,
        data=file.mask,
        problem="",
        is_picture=True,
        caption=file.mask_caption,
        warnings=(own_mask.warning,),
        source=file.source,
    )
    return (outcome, *_read((position, picture), decode=decode, decode_mask=decode_mask, cut=cut))


def _cut(position: int, file: File, photo: Photo, own_mask: OwnMask, cut: _Cutter) -> Outcome:
    found = cut(photo, own_mask.mask, position)
    mask_warning = "" if own_mask.is_picture else own_mask.warning
    is_in_vain = file.mask_caption and not own_mask.is_picture
    about_mask = "what is written about its mask is not used" if is_in_vain else ""
    warnings = (*file.warnings, *found.warnings, mask_warning)
    remarks = (*file.remarks, *photo.remarks, own_mask.remark, about_mask)
    return Outcome(
        report=PhotoReport(
            position=position,
            name=file.name,
            used=True,
            reason=", ".join(filter(None, remarks)),
            size=found.photo.size,
            num_faces=found.num_faces,
            warnings=tuple(filter(None, warnings)),
        ),
        is_picture=True,
        caption=file.caption,
        cuts=found.cuts,
        look=look_at(found.photo.image, photo.taken),
        source=file.source,
    )


def _cutter(task: str, resolution: int) -> _Cutter:
    if task == "face":
        # Here, because it brings torch, which takes seconds to load.
        from preprocessing.portraits import cut_portraits

        return partial(cut_portraits, resolution=resolution)
    return lambda photo, mask, _: Cuts(photo=photo, cuts=(cut_square(photo, mask, resolution),))


def _skipped(position: int, file: File, reason: str) -> Outcome:
    report = PhotoReport(position=position, name=file.name, used=False, reason=reason)
    return Outcome(
        report=report, is_picture=file.is_picture, caption=file.caption, source=file.source
    )
