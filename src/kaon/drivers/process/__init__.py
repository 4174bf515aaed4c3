"""Replicas as supervised processes of this machine."""

from kaon.drivers.process.driver import ProcessDriver

__all__ = ["ProcessDriver"]
