"""`make bench-live`: scaling laws on the real platform, under load that was compressed in time."""
