# ruff: noqa: ANN001, ANN201, D100, D103, PLR2004
# fmt: off
# Sample input of the Code Review agent: one magic number, score 9.8.
def calculate(x, y):
    if x > 10:
        return x*y
    return x+y
