"""Which square of a photo is trained on: geometry only, no pixels."""

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels of the upright photo

_TALL_CROP_CENTRE = 0.4  # of what is cut off a tall photo: heads are nearer to the top


def crop_square(size: tuple[int, int]) -> Box:
    """Width and height -> the largest square: centred, in tall photos nearer to the top."""
    width, height = size
    side = min(size)
    left = (width - side) // 2
    top = int((height - side) * _TALL_CROP_CENTRE)
    return (left, top, left + side, top + side)
