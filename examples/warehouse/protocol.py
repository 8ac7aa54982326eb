"""The two steps of a report that are code: asking the database, and making its answer what all systems read."""

CURRENCY = "EUR"


def execute(connection: str, statement: str, parameters: dict) -> dict:
    """Have a database carry a statement out, and give its rows. Values are bound by its server."""
    # `invoke` is there in all code: it calls a tool or a service by its name.
    answer = invoke(connection, statement=statement, parameters=parameters)  # noqa: F821
    return {"rows": answer["rows"]}


def convert(rows: list, region: str) -> list[dict]:
    """Rows as whoever reads reports has agreed to read them."""
    return [
        {
            "region": region,
            "product": row["product"],
            "revenue": {"amount": f"{row['revenue']:.2f}", "currency": CURRENCY},
            "last_sold": row["last_sold"],
        }
        for row in rows
    ]
