"""`kaon apply`."""
