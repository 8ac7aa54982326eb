# ruff: noqa: ANN001, ANN201, D100
def score_answers(state):
    """The share of the examples that this round has answered as it should, and the best so far."""
    examples, answers = state.get("examples"), state.get("answers")
    right = sum(
        answer == example["wanted"]
        for example, answer in zip(examples, answers, strict=False)
        if answer is not None
    )
    score = right / len(examples) if answers and examples else 0
    written = state.get("written") if state.get("check")["valid"] else None
    told = {"round": state.get("round"), "score": score, "version": written and written["version"]}
    state.set("score", score)
    state.set("told", [*state.get("told"), told])
    if written and score > state.get("best")["score"]:
        best = {"score": score, "version": written["version"], "workflow": written["workflow"]}
        state.set("best", best)
    return state
