"""How fast datasets are pushed and made ready on a machine, beside rclone."""
