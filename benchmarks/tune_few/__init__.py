"""`make bench-tune-few`: the tuner with few calls, where one bad minute counts more than a thousand good calls."""
