"""The replica: one process that serves one copy of a service."""
