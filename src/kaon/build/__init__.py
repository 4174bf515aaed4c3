"""From a project's sources to an artifact, and from an artifact to files and an environment that can run."""
