"""Shards -> decoded uint8 clips."""
