"""The pages of evaluations without a Hub: runs as they lie in folders, served to this machine, or written into one file."""
