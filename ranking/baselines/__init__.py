"""Published re-rankers to compare with, implemented from their papers; nothing of them is served."""
