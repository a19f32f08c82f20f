"""What a training run writes and shows: run folders, logs, callbacks, tables."""
