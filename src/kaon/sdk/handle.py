"""Handles: how one service calls another."""

from __future__ import annotations


class Handle:
    """Another service, by name or class; `kaon.use` makes one."""
