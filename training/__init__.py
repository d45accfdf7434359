"""Data to release: each stage a function. Knows nothing of serving."""
