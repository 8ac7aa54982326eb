"""What comes in and what goes out, field by field.

Requests refuse fields that they do not know; answers hold only what is written here, whatever
the records behind them may grow. Both are published in `/openapi.json`.
"""
