"""What the commands about sandboxes and images are made of."""
