"""`make bench-serving`: what a request costs, beside other ways to serve the same typed call."""
