"""`kaon dev`."""
