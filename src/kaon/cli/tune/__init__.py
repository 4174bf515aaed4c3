"""`kaon tune`."""
