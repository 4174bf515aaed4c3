"""The platform's HTTP API: everything that people, programs and agents ask of the control plane."""
