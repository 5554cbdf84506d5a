"""One picture that shows what a run learned: rows of pictures with captions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

CELL_PIXELS = 128
GAP_PIXELS = 8
CAPTION_PIXELS = 30
LABEL_PIXELS = 18
CAPTION_FONT = ImageFont.load_default(size=17)
LABEL_FONT = ImageFont.load_default(size=12)
PAPER, INK, PALE_INK = "white", "black", "#555555"


@dataclass(frozen=True, kw_only=True)
class Row:
    """Pictures side by side.

    Attributes:
        labels: one under each picture, or none at all.
    """

    caption: str
    images: Sequence[Image.Image]
    labels: Sequence[str] = ()

    @property
    def height(self) -> int:
        label_pixels = LABEL_PIXELS if self.labels else 0
        return CAPTION_PIXELS + CELL_PIXELS + label_pixels + GAP_PIXELS


def write_preview(rows: Sequence[Row], path: Path) -> None:
    """Draw the rows one under the other."""
    num_columns = max(len(row.images) for row in rows)
    width = GAP_PIXELS + num_columns * (CELL_PIXELS + GAP_PIXELS)
    sheet = Image.new("RGB", (width, GAP_PIXELS + sum(row.height for row in rows)), PAPER)
    top = GAP_PIXELS
    for row in rows:
        draw_row(sheet, row, top)
        top += row.height
    sheet.save(path)


def draw_row(sheet: Image.Image, row: Row, top: int) -> None:
    draw = ImageDraw.Draw(sheet)
    caption = fit_text(row.caption, CAPTION_FONT, sheet.width - 2 * GAP_PIXELS)
    draw.text((GAP_PIXELS, top + 4), caption, INK, CAPTION_FONT)
    for column, image in enumerate(row.images):
        left = GAP_PIXELS + column * (CELL_PIXELS + GAP_PIXELS)
        sheet.paste(resize_to_cell(image), (left, top + CAPTION_PIXELS))
        if row.labels:
            label = fit_text(row.labels[column], LABEL_FONT, CELL_PIXELS)
            below = top + CAPTION_PIXELS + CELL_PIXELS + 2
            draw.text((left, below), label, PALE_INK, LABEL_FONT)


def resize_to_cell(image: Image.Image) -> Image.Image:
    return image.resize((CELL_PIXELS, CELL_PIXELS), Image.Resampling.LANCZOS)


def fit_text(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """As much of the text as fits, with dots for the rest."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."
