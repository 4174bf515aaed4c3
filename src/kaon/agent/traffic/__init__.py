"""Counts the traffic and sends it to the control plane."""
