"""Kaon turns a Python class into a managed AI service."""

__version__ = "0.1.0"
