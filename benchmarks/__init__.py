"""Benchmarks: every figure that Kaon claims, measured again beside named peers."""
