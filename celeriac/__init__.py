"""Celeriac: the face of the project, what users import and type: SDK, client, CLI, testing."""
