"""Rankers that can be members of an ensemble, each trained on its own."""
