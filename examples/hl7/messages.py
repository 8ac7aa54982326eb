# ruff: noqa: ANN001, ANN201, ANN202, F821
"""Messages of HL7 version 2: what the router must know of them, and what it makes of them.

A message is lines of fields; its first line says by which marks everything in it is set apart. What
comes from outside is read here, behind the walls of the sandbox. Modules are there without an import.
"""

GENDERS = {"F": "female", "M": "male", "O": "other"}


def read_message(state):
    """Say what a message is about, and write it as the other systems want it."""
    segments = _segments(state["message"])
    head, patient = segments["MSH"][0], _patient(segments)
    kind, _, event = head[9].partition(head[2][0])
    if not kind or not head[10]:
        raise ValueError("MSH-9 or MSH-10 is empty: nobody can tell what the message is")
    about = {
        "type": kind,
        "event": event.partition(head[2][0])[0],
        "control_id": head[10],
        "sender": [head[3], head[4]],
        "time": head[7],
        "patient": patient,
    }
    return {
        "about": about,
        "places": {
            "patient": f"patients/{_named(patient['id'], 'PID-3')}",
            "results": f"results/{_named(head[10], 'MSH-10')}",
        },
        "resource": _resource(patient),
        "laboratory": _for_laboratory(about),
        "results": [_result(fields, head[2][0]) for fields in segments.get("OBX", [])],
    }


def acknowledge(state):
    """Answer the sender: AA is taken, AE is wrong, AR is refused."""
    about, code = state["about"], state["code"]
    to, control = about.get("sender", ["", ""]), about.get("control_id", "")
    lines = (
        [
            "MSH",
            "^~\\&",
            "CELERIAC",
            "",
            *to,
            about.get("time", ""),
            "",
            "ACK",
            control,
            "P",
            "2.5",
        ],
        ["MSA", code, control, *([state["why"]] if state.get("why") else [])],
    )
    return {"code": code, "acknowledgement": "\r".join("|".join(line) for line in lines)}


def _named(text, field):
    """What may stand in an address as it is: whoever sends a message does not say where it goes."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise ValueError(f"{field} is no identifier: {text!r}")
    return text


def _segments(text):
    """The fields of each line by its name; a field stands at its number, as in the standard."""
    lines = text.strip().splitlines()
    if not lines or not lines[0].startswith("MSH") or len(lines[0]) < len("MSH|^~\\&|"):
        raise ValueError("the message does not begin with MSH and its separators")
    mark, found = lines[0][3], {}
    for line in lines:
        name, *fields = line.split(mark)
        # The mark itself is the first field of MSH. What is left out at the end is empty.
        fields = [name, mark, *fields] if name == "MSH" else [name, *fields]
        found.setdefault(name, []).append(fields + [""] * 30)
    return found


def _patient(segments):
    if "PID" not in segments:
        raise ValueError("there is no PID: the message is about nobody")
    part, repetition, escape, within = segments["MSH"][0][2][:4]
    marks = {"F": segments["MSH"][0][1], "S": part, "R": repetition, "E": escape, "T": within}

    def plain(text):
        for code, mark in marks.items():
            text = text.replace(f"{escape}{code}{escape}", mark) if code != "E" else text
        return text.replace(f"{escape}E{escape}", escape)

    pid = segments["PID"][0]
    family, given, *_ = [*pid[5].split(repetition)[0].split(part), ""]
    return {
        "id": plain(pid[3].split(repetition)[0].split(part)[0]),
        "family": plain(family),
        "given": plain(given),
        "born": pid[7][:8],
        "sex": pid[8],
    }


def _resource(patient):
    born = patient["born"]
    return {
        "resourceType": "Patient",
        "identifier": [{"value": patient["id"]}],
        "name": [{"family": patient["family"], "given": [patient["given"]]}],
        "birthDate": f"{born[:4]}-{born[4:6]}-{born[6:]}",
        "gender": GENDERS.get(patient["sex"], "unknown"),
    }


def _for_laboratory(about):
    """The laboratory speaks 2.3, sets its fields apart by #, and wants names in one piece."""
    patient = about["patient"]
    name = f"{patient['family']}, {patient['given']}".upper().replace("#", " ")
    lines = (
        [
            "MSH",
            "^~\\&",
            "CELERIAC",
            "",
            "LAB",
            "",
            about["time"],
            "",
            f"{about['type']}^{about['event']}",
            about["control_id"],
            "P",
            "2.3",
        ],
        ["PID", "1", "", patient["id"], "", name, "", patient["born"], patient["sex"]],
    )
    return "\r".join("#".join(line) for line in lines)


def _result(fields, part):
    return {"code": fields[3].split(part)[0], "value": fields[5], "unit": fields[6].split(part)[0]}
