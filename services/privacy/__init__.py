"""Users' right to be forgotten: every store of this platform that knows users, and the list of those it must not know again."""
