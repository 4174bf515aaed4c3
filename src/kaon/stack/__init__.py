"""The composition root: the only package that knows all parts. `kaon.stack.up` brings a platform up and down."""
