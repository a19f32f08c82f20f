"""Training one model on many processes: strategies, sharding, checkpoints in shards."""
