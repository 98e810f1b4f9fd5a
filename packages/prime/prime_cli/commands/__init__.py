"""The command groups, one module a noun; imported only when they are run (prime_cli.main)."""
