"""What both ends of a wire agree on: configuration, API client, project layout, packaging."""
