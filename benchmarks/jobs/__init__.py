"""What jobs cost the control plane."""
