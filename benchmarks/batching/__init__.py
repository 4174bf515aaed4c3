"""`make bench-batching`: what batching gains, beside other servers that batch."""
