"""The tuner on the real platform: before, while it tunes, and with what it found from the start."""
