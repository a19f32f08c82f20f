"""What a model gets right."""
