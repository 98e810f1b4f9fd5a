"""The Hub's records: models, sessions and migrations."""
