"""What a service is written with: marks on plain classes, compiled from their type hints."""
