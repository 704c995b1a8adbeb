"""Token and audio shards on disk, and batches drawn from them as pure functions of (seed, step, rank)."""
