"""The commands of `prime env` by what they do; `prime_cli.commands.env` puts them together."""
