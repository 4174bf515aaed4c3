"""Scaling laws of other systems in the form of Kaon's, to measure against in the simulator and in benchmarks."""

from __future__ import annotations

from kaon.laws.scaling_peers.hpa import Hpa
from kaon.laws.scaling_peers.knative import Knative
from kaon.laws.scaling_peers.predictive import Predictive
from kaon.laws.scaling_peers.ray_serve import RayServe
from kaon.laws.scaling_peers.sky_serve import SkyServe

__all__ = ["Hpa", "Knative", "Predictive", "RayServe", "SkyServe"]
