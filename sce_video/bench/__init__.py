"""Where the time of this machine goes: the stages of a run, and the parts of its step."""
