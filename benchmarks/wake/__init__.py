"""How long callers wait beyond a replica's own start, and whether any is lost."""
