"""What a sandbox really is on this machine; `base` is the contract, the other modules fulfil it."""
