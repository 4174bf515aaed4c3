"""What the agent does: to replicas by their driver, for callers who wait, and for the control plane that asks."""
