"""What the agent counts of the traffic, and how it tells the control plane."""
