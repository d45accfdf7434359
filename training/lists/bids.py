"""Bids, which the data do not have: an advertiser is taken to pay 5 % of the item's mean price per click."""

from __future__ import annotations

from typing import Any

BID_SHARE = 0.05
LEAST_BID_MICROS = 10_000


def bids(prices: Any) -> list[int]:
    """(n,) bids in micros: 5 % of the price, at least a cent."""
    return [max(LEAST_BID_MICROS, round(float(p) * BID_SHARE * 1e6)) for p in prices]
