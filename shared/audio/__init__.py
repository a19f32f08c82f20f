"""Sound: files in, features out, and what training does to it on the way."""
