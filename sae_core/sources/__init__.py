"""Where a corpus can come from, other than a file of one's own."""
