"""Shard sets and tars elsewhere: fetched whole, kept in a bounded cache."""
