"""`kaon init`."""
