"""The commands. Each module declares its own and adds them to the app; what is heavy is imported when one runs."""
