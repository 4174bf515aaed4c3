"""`kaon rollout`."""
