"""`kaon job`."""
