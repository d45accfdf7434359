"""Feedback: what users did with what they were shown, validated at the door and kept in an event log that loses nothing it acknowledged."""
