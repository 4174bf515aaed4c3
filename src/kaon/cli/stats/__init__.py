"""`kaon stats`."""
