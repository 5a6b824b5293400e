"""The readers that are tried: what good input each has, and what reads it as the package does."""
