"""`/api/v1` and `/api/graph-bundle`: the platform as resources.

Every route parses, calls one function of `engine.runs`, and shows what it returned through a
schema. Tenant and user come from the credential and from nowhere else.
"""
