"""What a model of old text knows, and of when."""

CUTOFF = 1930  # last year of Talkie's training text
