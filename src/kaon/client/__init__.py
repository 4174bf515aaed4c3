"""How deployments are called: a core without I/O, and clients that drive it."""
