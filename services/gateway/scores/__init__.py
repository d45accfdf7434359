"""What text members said of (query text, item text) pairs, kept so that a pair is scored once per model version."""
