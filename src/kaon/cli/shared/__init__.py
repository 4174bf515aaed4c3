"""What several verbs share: options, output, tables, charts, the context in use, the platform's routes."""
