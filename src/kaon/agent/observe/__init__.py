"""What the agent sees of replicas: their probes, how they start, and how a shadow's answers compare."""
