"""Every picture at a glance: the whole photo, what of it is trained on, and remarks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFont, ImageOps

from cli.preview import GAP_PIXELS, INK, PALE_INK, PAPER, fit_text
from preprocessing.crops import Box
from preprocessing.prepare import Prepared
from preprocessing.quality import THUMBNAIL_PIXELS
from preprocessing.report import PhotoReport

# A hundred photos are shown as large as they are kept, more of them smaller: no sheet is larger
# than 8 megapixels, captions and all.
ALL_PHOTOS_PIXELS = 4_000_000
MAX_CELLS = 1_000
MIN_COLUMNS = 4
WIDTH_BY_HEIGHT = 1.5

TITLE = "{} used, {} not. Framed: what is trained on. Blue: counts less. Red: not used."
TITLE_FONT = ImageFont.load_default(size=15)
TITLE_PIXELS = 28
LARGE_FONT, SMALL_FONT = ImageFont.load_default(size=13), ImageFont.load_default(size=9)
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
SMALL_CELL_PIXELS = 128
LARGE_LINE_PIXELS, SMALL_LINE_PIXELS = 16, 12
NUM_LINES = 2  # of remarks

FRAME_COLOUR, BACKGROUND_COLOUR, REFUSED_COLOUR = "#e8590c", "#1c4fd8", "#b00020"
FADED = 0.65  # how much of the paper covers what is cropped away
TINTED = 0.6  # how much of the blue covers what the mask leaves out


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One photo on the sheet.

    Attributes:
        thumbnail: of the whole photo; None if nothing was decoded.
        mask: of the crop, white where the subject is; None: all of it counts the same.
    """

    report: PhotoReport
    thumbnail: Image.Image | None
    mask: Image.Image | None


def write_contact_sheet(prepared: Prepared, path: Path) -> None:
    """As a PNG, whatever the path is called."""
    draw_contact_sheet(cells_of(prepared)).save(path, "PNG")


def cells_of(prepared: Prepared) -> list[Cell]:
    """One for every file that was met, in that order."""
    masks = iter([example.mask for example in prepared.examples])
    return [
        Cell(
            report=report,
            thumbnail=look.thumbnail if look else None,
            mask=next(masks) if report.used else None,
        )
        for report, look in zip(prepared.reports, prepared.looks, strict=True)
    ]


def draw_contact_sheet(cells: Sequence[Cell]) -> Image.Image:
    """Rows of cells. Of more than `MAX_CELLS`, those without a photo are left out first."""
    chosen = sorted(cells, key=lambda cell: cell.thumbnail is None)[:MAX_CELLS]
    chosen.sort(key=lambda cell: cell.report.position)
    side = min(math.isqrt(ALL_PHOTOS_PIXELS // len(chosen)), THUMBNAIL_PIXELS)
    num_columns = max(MIN_COLUMNS, round(math.sqrt(WIDTH_BY_HEIGHT * len(chosen))))
    _, line_pixels = letters_for(side)
    width, height = side + GAP_PIXELS, side + (1 + NUM_LINES) * line_pixels + GAP_PIXELS
    top = TITLE_PIXELS + GAP_PIXELS
    sheet_height = top + math.ceil(len(chosen) / num_columns) * height
    sheet = Image.new("RGB", (GAP_PIXELS + num_columns * width, sheet_height), PAPER)
    draw_title(sheet, cells)
    for index, cell in enumerate(chosen):
        row, column = divmod(index, num_columns)
        draw_cell(sheet, cell, (GAP_PIXELS + column * width, top + row * height), side)
    return sheet


def draw_title(sheet: Image.Image, cells: Sequence[Cell]) -> None:
    num_used = sum(cell.report.used for cell in cells)
    title = TITLE.format(num_used, len(cells) - num_used)
    title = fit_text(title, TITLE_FONT, sheet.width - 2 * GAP_PIXELS)
    ImageDraw.Draw(sheet).text((GAP_PIXELS, GAP_PIXELS), title, INK, TITLE_FONT)


def draw_cell(sheet: Image.Image, cell: Cell, corner: tuple[int, int], side: int) -> None:
    """A photo in the middle of a square of `side` pixels; below it, its number and remarks."""
    left, top = corner
    draw = ImageDraw.Draw(sheet)
    if cell.thumbnail is None:
        draw.rectangle((left, top, left + side - 1, top + side - 1), outline=REFUSED_COLOUR)
    else:
        photo = draw_photo(cell, ImageOps.contain(cell.thumbnail, (side, side)))
        sheet.paste(photo, (left + (side - photo.width) // 2, top + (side - photo.height) // 2))
    font, line_pixels = letters_for(side)
    colours = (INK, PALE_INK) if cell.report.used else (REFUSED_COLOUR, REFUSED_COLOUR)
    below = top + side + 1
    draw.text((left, below), str(cell.report.position), colours[0], font)
    for number, line in enumerate(wrap_text(cell.report.remarks, font, side), 1):
        draw.text((left, below + number * line_pixels), line, colours[1], font)


def letters_for(side: int) -> tuple[Font, int]:
    """And how high a line of them is, in pixels."""
    if side < SMALL_CELL_PIXELS:
        return SMALL_FONT, SMALL_LINE_PIXELS
    return LARGE_FONT, LARGE_LINE_PIXELS


def wrap_text(text: str, font: Font, width: int) -> list[str]:
    """At most `NUM_LINES` lines, broken between words; the last ends in dots if there is more."""
    lines: list[str] = []
    words = text.split()
    while words and len(lines) < NUM_LINES - 1:
        num_words = len(words)
        while num_words > 1 and font.getlength(" ".join(words[:num_words])) > width:
            num_words -= 1
        lines.append(fit_text(" ".join(words[:num_words]), font, width))
        words = words[num_words:]
    return [*lines, fit_text(" ".join(words), font, width)] if words else lines


def draw_photo(cell: Cell, photo: Image.Image) -> Image.Image:
    """The photo with its crop framed, the mask tinted, and the rest faded."""
    if cell.report.crop is None or cell.report.size is None:
        return photo
    left, top, right, bottom = scale_box(cell.report.crop, cell.report.size, photo.size)
    crop = photo.crop((left, top, right, bottom))
    if cell.mask is not None:
        background = ImageChops.invert(cell.mask.resize(crop.size))
        crop.paste(BACKGROUND_COLOUR, mask=background.point(lambda level: level * TINTED))
    faded = Image.blend(photo, Image.new("RGB", photo.size, PAPER), FADED)
    faded.paste(crop, (left, top))
    frame = (left, top, right - 1, bottom - 1)
    ImageDraw.Draw(faded).rectangle(frame, outline=FRAME_COLOUR, width=2)
    return faded


def scale_box(
    box: Box, size: tuple[int, int], new_size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """The same part of a photo at another size, at least one pixel wide and high."""
    horizontal, vertical = new_size[0] / size[0], new_size[1] / size[1]
    left, top = int(box[0] * horizontal), int(box[1] * vertical)
    right = max(left + 1, round(box[2] * horizontal))
    bottom = max(top + 1, round(box[3] * vertical))
    return left, top, right, bottom
