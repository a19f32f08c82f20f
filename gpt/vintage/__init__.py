"""What a model of old text knows, and of when."""
