"""`make bench-canary`: what a canary's test is worth."""
