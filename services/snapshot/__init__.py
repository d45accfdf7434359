"""The item snapshot: one memory-mapped file of item features that every gateway process of a machine reads and one process writes."""
