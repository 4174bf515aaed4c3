"""Levels of log lines."""

from __future__ import annotations

from enum import StrEnum


class LogLevel(StrEnum):
    """How severe a log line is, rising."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"
