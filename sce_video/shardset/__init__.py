"""A shard set on disk: its index, manifest, splits and labels."""
