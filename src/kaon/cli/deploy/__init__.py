"""`kaon deploy`."""
