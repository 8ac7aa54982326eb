"""What the tools of the clinic do, on records that are made up."""

from __future__ import annotations

from typing import Any

_GUIDELINES = (
    {"id": "G1", "title": "Type 2 diabetes: first line", "words": "diabetes metformin glucose"},
    {"id": "G2", "title": "Hypertension in adults", "words": "blood pressure hypertension"},
    {"id": "G3", "title": "Diabetes and the kidney", "words": "diabetes kidney renal"},
)
_PATIENTS = {
    "P001": {"name": "Ada Example", "ssn": "000-00-0001", "age": 61, "drugs": ["metformin"]},
    "P002": {"name": "Bob Sample", "ssn": "000-00-0002", "age": 47, "drugs": ["warfarin"]},
}
_INTERACTIONS = {frozenset({"warfarin", "aspirin"}): "bleeding"}


def find_guidelines(query: str, limit: int = 3) -> list[dict[str, str]]:
    """Find guidelines by their words, the best first."""
    asked = set(query.lower().split())
    scored = [(len(asked & set(each["words"].split())), each) for each in _GUIDELINES]
    found = sorted((pair for pair in scored if pair[0]), key=lambda pair: -pair[0])
    return [{"id": each["id"], "title": each["title"]} for _, each in found[:limit]]


def patient_record(patient_id: str) -> dict[str, Any]:
    """The record of a patient."""
    if patient_id not in _PATIENTS:
        raise ValueError(f"there is no patient {patient_id}")
    return {"patient_id": patient_id, **_PATIENTS[patient_id]}


def check_interactions(drugs: list[str]) -> list[dict[str, Any]]:
    """Known interactions between drugs."""
    given = {drug.lower() for drug in drugs}
    return [
        {"drugs": sorted(pair), "effect": effect}
        for pair, effect in _INTERACTIONS.items()
        if pair <= given
    ]


def send_summary(to: str, text: str) -> dict[str, Any]:
    """Send a summary to a colleague. Here nothing is sent; it is said what would be."""
    return {"to": to, "characters": len(text)}
