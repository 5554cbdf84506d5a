"""A face in a photo: where it is, and how sure that is."""

from dataclasses import dataclass

from preprocessing.crops import Box

Point = tuple[float, float]  # x, y


@dataclass(frozen=True, kw_only=True)
class Face:
    """Everything in pixels of the image that it was found in.

    Attributes:
        box: from the middle of the forehead to the chin, and from cheek to cheek; in the image.
        score: how sure it is that this is a face, from 0 to 1.
        landmarks: five: the eye on the left of the image, the right one, the tip of the nose, the
            left and the right corner of the mouth; these may lie beyond the image's edge.
    """

    box: Box
    score: float
    landmarks: tuple[Point, ...]

    @property
    def width(self) -> float:
        return self.box[2] - self.box[0]

    @property
    def height(self) -> float:
        return self.box[3] - self.box[1]

    @property
    def centre(self) -> Point:
        return ((self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2)


def scaled(face: Face, horizontal: float, vertical: float) -> Face:
    """The same face in an image that is so many times as wide and high."""
    left, top, right, bottom = face.box
    return Face(
        box=(left * horizontal, top * vertical, right * horizontal, bottom * vertical),
        score=face.score,
        landmarks=tuple((x * horizontal, y * vertical) for x, y in face.landmarks),
    )
