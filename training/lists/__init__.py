"""Ranking lists from canonical tables: impressions and queries by week, retrieval cut, frames with features, sample requests."""
