"""Actions of the agent: on replicas, for held calls, and for calls of the control plane."""
