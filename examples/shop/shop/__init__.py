"""The recommender's pure part: arrays in, arrays out; no network, no clock, no files but the data package's own."""
