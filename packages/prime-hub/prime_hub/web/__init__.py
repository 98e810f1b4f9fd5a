"""What faces a browser: pages, errors, headers."""
