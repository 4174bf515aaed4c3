"""The simulator: production's laws, unchanged, over simulated replicas and traffic."""
