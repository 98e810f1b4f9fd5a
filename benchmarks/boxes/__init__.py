"""What script/bench sandboxes measures: a Hub's sandboxes on one runtime, and the bare thing beside it."""
