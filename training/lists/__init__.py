"""Ranking lists from canonical tables: impressions and queries by week, retrieval cut, frames and arrays, sample requests."""
