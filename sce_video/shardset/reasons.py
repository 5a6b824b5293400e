"""Why files are not in a shard set, as far as names, places and lists tell; see ``rejects.csv``."""

from __future__ import annotations

from collections.abc import Mapping

MISSING = "missing"
TWICE = "listed twice with different labels or splits"  # of these the first listing holds
REPLACED = "replaced"
OF_LISTS = frozenset({MISSING, TWICE, REPLACED})
"""What lists say of files: of all reasons these alone enter a plan's digest."""

ELSEWHERE = "in no list or class folder"
NOT_MEDIA: Mapping[str, str] = {"video": "not a video", "image": "not an image"}
BESIDE: Mapping[str, str] = {"video": "picture beside videos", "image": "video beside pictures"}
NOT_READ: Mapping[str, str] = {
    "video": "container not read: convert to mp4",
    "image": "format not read: convert to jpeg or png",
}
ARCHIVE = "archive not read"
SAME_STEM = "another file of this stem is taken"
SAME_NAME = "another file of this name is taken"
NOWHERE = "link to nowhere"
CLOSED = "link to a place that may not be read"
LONG = "path too long for the system"
ABOVE = "link to a folder above it"
AGAIN = "link to a folder that is read elsewhere"
SPECIAL = "neither a file nor a folder"
IN_ARCHIVE = "no plain file in an archive"
SHARD_SET = "shard set"

ASIDE = frozenset(
    {REPLACED, ELSEWHERE, *NOT_MEDIA.values(), *BESIDE.values(), ARCHIVE, SAME_STEM, SAME_NAME}
    | {ABOVE, AGAIN, SPECIAL, SHARD_SET}
    | {"unlisted"}  # of sets that were made before the reasons were told apart
)
"""Reasons of what lies beside a data set: nothing that belongs to it is lost."""
