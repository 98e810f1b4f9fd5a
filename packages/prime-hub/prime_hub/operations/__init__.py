"""What an operator sees of a Hub: request ids, logs that programs read, metrics, and whether it lives and is ready."""
