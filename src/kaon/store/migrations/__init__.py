"""Migrations of the schema, applied when a store is opened (`kaon.store.migrations.upgrade`)."""
