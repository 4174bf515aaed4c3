"""Every decision, as a pure function: no clock, no randomness, no I/O."""
