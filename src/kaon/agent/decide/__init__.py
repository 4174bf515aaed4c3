"""What the agent does next: pure functions of the plan, the observations and the history."""
