"""What the Hub does, with no HTTP in it."""
