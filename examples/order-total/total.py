# ruff: noqa: ANN001, ANN201, D100
def total(state):
    """What the orders come to, in the currency that was asked for."""
    state.set("total", round(sum(each["amount"] for each in state["orders"]) * state["rate"], 2))
    return state
