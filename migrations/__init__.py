"""The migrations: the schema of a database, as the sum of its numbered steps."""
