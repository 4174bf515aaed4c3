"""`kaon call`."""
