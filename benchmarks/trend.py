"""Does a measured quantity grow? A straight line through it, and how sure that line is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Verdict = Literal["flat", "growing", "unclear"]

PER = 100  # slopes are per so many predictions
NUM_ERRORS = 2.0  # standard errors either side: 95 of 100 such intervals hold the true slope
MAX_CORRELATION = 0.95  # beyond this, too few independent points remain to speak of errors


@dataclass(frozen=True, kw_only=True)
class Trend:
    """A least-squares line.

    Attributes:
        slope, error: per 100 predictions; error is one standard error of the slope, widened for
            neighbours that resemble each other.
        level: of the line at its middle.
    """

    slope: float
    error: float
    level: float

    def verdict(self, limit: float) -> Verdict:
        """Growing only if surely above the limit, flat only if surely at or below it."""
        if self.slope - NUM_ERRORS * self.error > limit:
            return "growing"
        return "flat" if self.slope + NUM_ERRORS * self.error <= limit else "unclear"


def fit(numbers: Sequence[int], values: Sequence[float]) -> Trend:
    """Prediction numbers and what was measured after each; three points or more.

    The standard error is the textbook one times sqrt((1 + r) / (1 - r)), r being the correlation
    of neighbouring residuals: memory that goes up and stays up is few independent points.
    """
    hundreds = np.asarray(numbers, dtype=float) / PER
    measured = np.asarray(values, dtype=float)
    centred = hundreds - hundreds.mean()
    spread = float((centred**2).sum())
    slope = float((centred * measured).sum()) / spread
    residuals = measured - measured.mean() - slope * centred
    squares = float((residuals**2).sum())
    error = (squares / (len(measured) - 2) / spread) ** 0.5
    if squares > 0:
        correlation = float((residuals[1:] * residuals[:-1]).sum()) / squares
        correlation = min(max(correlation, 0.0), MAX_CORRELATION)
        error *= ((1 + correlation) / (1 - correlation)) ** 0.5
    return Trend(slope=slope, error=error, level=float(measured.mean()))
