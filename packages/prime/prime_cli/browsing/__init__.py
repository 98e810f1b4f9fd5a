"""The terminal browser: the runs of a folder, their rollouts, every conversation, and two runs side by side."""
