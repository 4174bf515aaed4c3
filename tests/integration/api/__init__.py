"""The API as a whole, through HTTP."""
