"""What the agent does next: pure functions of the plan, of what it sees and of what it remembers."""
