"""The platform's memory: one port, SQLite and PostgreSQL behind it, and blobs beside it."""
