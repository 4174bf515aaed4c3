"""`make bench-tune-few`: the tuner where few calls come, and a bad minute says more than a thousand good calls."""
