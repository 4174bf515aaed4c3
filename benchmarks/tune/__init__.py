"""`make bench-tune`: the tuner against everything else, in a world that its twin does not know."""
