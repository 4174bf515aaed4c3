"""One module per migration; the newest is `kaon.store.schema.HEAD`."""
