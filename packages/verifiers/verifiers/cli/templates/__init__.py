"""The files that `vf-init` writes, as they are but for __NAME__, __MODULE__ and __VERSION__."""
