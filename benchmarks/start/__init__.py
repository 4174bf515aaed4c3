"""How quickly a platform, a deployment and a replica are there, and how much memory they take while idle."""
