"""Several gateway processes on one port, and the small parent that keeps them."""
