"""`make bench-overload`: what is left of a service when three times more comes than it can serve."""
