"""The processes: what answers callers. Meets training and deploy only in `ranking/` and in the release directory."""
