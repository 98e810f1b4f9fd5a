"""What `prime env` does, apart from reading its arguments: publish, pull, install, look up."""
