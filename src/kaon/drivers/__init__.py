"""What starts and stops replicas: one port, and an adapter for each kind of place."""
