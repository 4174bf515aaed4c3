"""`kaon dataset`."""
