"""The edge: Envoy, programmed by files, between callers and replicas."""

from kaon.edge.edge import Edge

__all__ = ["Edge"]
