# ruff: noqa: ANN001, ANN201, ARG001, BLE001, D103, E722, PLR0917, PLR2004, S110
"""Sample input of the Code Review agent: bad on purpose, and it takes a few laps to mend."""

import json


def ship(order, carrier, country, express, gift, retries=12):
    for attempt in range(retries):
        try:
            print("shipping", order["id"], attempt)
            return send(order, timeout=45)
        except Exception:
            print("retry")
    return None


def send(order, timeout):
    # TODO: ask the carrier for its limits
    if not order.get("address"):
        raise ValueError("The order has no address to be sent to.")
    if order["weight"] > 30:
        raise ValueError("The order is too heavy for one parcel.")
    if timeout > 60:
        raise ValueError("The carrier closes a connection after a minute.")
    return json.dumps(order)


def price(order, customer, country, coupon, express, gift):
    total = 0
    for line in order["lines"]:
        for unit in line["units"]:
            if unit["weight"] > 30:
                total = total + unit["price"] * 115 / 100
            elif unit["weight"] > 10 and country != "DE":
                total = total + unit["price"] * 105 / 100
            else:
                total = total + unit["price"]
    if coupon:
        try:
            total = total - int(coupon)
        except:
            print("bad coupon")
    # TODO: express orders cost more
    return total


def audit(orders):
    # FIXME: nobody reads this
    for order in orders:
        for line in order["lines"]:
            try:
                if len(line["units"]) > 25:
                    print("A line with so many units is probably a mistake.", line)
                elif not line["units"]:
                    print("A line without any units is probably a mistake.", line)
                elif order.get("total", 0) > 5000:
                    print("An order of this value needs a second signature.", order)
            except Exception:
                pass
