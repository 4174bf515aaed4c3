"""Data only: one frozen model per noun, said once; routes, CLI, client and docs are derived from these."""
