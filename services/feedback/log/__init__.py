"""The event log: every event once, in the order they came, and the stores that keep it."""
