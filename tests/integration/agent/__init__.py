"""The agent on real processes."""
