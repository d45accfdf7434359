"""Discovery: what a household has not bought yet, scored from behaviour alone. Knows no prices, texts, promotions and no lists."""

from training.discovery.methods import METHODS, factorise
from training.discovery.types import Factors

__all__ = ["METHODS", "Factors", "factorise"]
