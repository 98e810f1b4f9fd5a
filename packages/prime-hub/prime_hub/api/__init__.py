"""The routes under /api/v1: parse, authorise, call a service, shape the reply."""
