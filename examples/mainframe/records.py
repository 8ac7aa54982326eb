"""Accounts as a mainframe writes them: records of a fixed width in EBCDIC, with packed decimals.

    01  ACCOUNT.
        05  NUMBER    PIC 9(8).
        05  NAME      PIC X(20).
        05  BALANCE   PIC S9(9)V99  COMP-3.
        05  OPENED    PIC 9(8).

A packed decimal has two digits in a byte; its last half byte is the sign: C or F is plus, D is minus.
"""

import json
from decimal import Decimal

CODE = "cp037"
#: Each field with its bytes, in their order; the balance is packed.
WIDTHS = {"number": 8, "name": 20, "balance": 6, "opened": 8}
RECORD = sum(WIDTHS.values())
DIGITS, CENTS = 11, 100
PLUS, MINUS = "cf", "d"


def read_accounts(data: bytes) -> list[dict]:
    """Read the accounts in a file of a mainframe. A record that is damaged is named by its number."""
    if len(data) % RECORD:
        raise ValueError(f"{len(data)} bytes are no whole number of records of {RECORD} bytes")
    return [
        _account(data[at : at + RECORD], at // RECORD + 1) for at in range(0, len(data), RECORD)
    ]


def write_accounts(accounts: list) -> bytes:
    """Write accounts as a mainframe reads them."""
    given = json.loads(accounts) if isinstance(accounts, str) else accounts
    return b"".join(_record(account, number) for number, account in enumerate(given, 1))


def add_interest(accounts: list, percent: str) -> list[dict]:
    """Add a year's interest to whoever is not in debt, rounded to the cent, half to even."""
    rate = Decimal(str(percent)) / 100
    return [
        {**each, "balance": _with_interest(Decimal(each["balance"]), rate)} for each in accounts
    ]


def _account(record: bytes, number: int) -> dict:
    fields, at = {}, 0
    for name, width in WIDTHS.items():
        fields[name], at = record[at : at + width], at + width
    opened = fields["opened"].decode(CODE)
    if not (opened.isdecimal() and fields["number"].decode(CODE).isdecimal()):
        raise ValueError(f"record {number}: the number or the date is not made of digits")
    return {
        "number": fields["number"].decode(CODE),
        "name": fields["name"].decode(CODE).rstrip(),
        "balance": str(_unpacked(fields["balance"], number)),
        "opened": f"{opened[:4]}-{opened[4:6]}-{opened[6:]}",
    }


def _record(account: dict, number: int) -> bytes:
    fields = {
        "number": account["number"].zfill(WIDTHS["number"]).encode(CODE),
        "name": account["name"].ljust(WIDTHS["name"]).encode(CODE),
        "balance": _packed(Decimal(account["balance"]), number),
        "opened": account["opened"].replace("-", "").encode(CODE),
    }
    for name, width in WIDTHS.items():
        if len(fields[name]) != width:
            raise ValueError(
                f"record {number}: {name} {account[name]!r} does not fit {width} bytes"
            )
    if not (account["number"] + account["opened"].replace("-", "")).isdecimal():
        raise ValueError(f"record {number}: the number or the date is not made of digits")
    return b"".join(fields.values())


def _unpacked(packed: bytes, number: int) -> Decimal:
    digits, sign = packed.hex()[:-1], packed.hex()[-1]
    if not digits.isdecimal() or sign not in PLUS + MINUS:
        raise ValueError(f"record {number}: {packed.hex()} is no packed decimal")
    amount = Decimal(digits) / CENTS
    return (-amount if sign in MINUS else amount).quantize(Decimal("0.01"))


def _packed(amount: Decimal, number: int) -> bytes:
    digits = str(abs(int(amount * CENTS)))
    if len(digits) > DIGITS or amount * CENTS != int(amount * CENTS):
        raise ValueError(f"record {number}: {amount} does not fit in S9(9)V99")
    return bytes.fromhex(digits.zfill(DIGITS) + ("d" if amount < 0 else "c"))


def _with_interest(balance: Decimal, rate: Decimal) -> str:
    return str(balance if balance < 0 else (balance * (1 + rate)).quantize(Decimal("0.01")))
