# ruff: noqa: ANN001, ANN201, D100
def count_words(state):
    """How many words a text has. It gets the variables of the run, and gives what changes of them."""
    return {"words": len(state["text"].split())}
