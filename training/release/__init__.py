"""From a winner to a release: what is measured, which policies are shipped, how the directory is published."""
