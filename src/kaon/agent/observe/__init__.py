"""Observation of replicas: probes, starts, and the comparison of a shadow's answers."""
