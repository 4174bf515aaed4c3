"""`make bench-autoscale`: scaling laws on real load, by the simulator."""
