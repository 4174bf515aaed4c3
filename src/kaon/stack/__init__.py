"""The composition root: the only package that imports all parts. `kaon.stack.up` starts and stops a platform."""
