"""`make bench-control`: what deciding costs."""
