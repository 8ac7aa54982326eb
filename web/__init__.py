"""The web: REST routes, live streams and the API description, thin over `engine.runs`."""
