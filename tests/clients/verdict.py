"""Results against `expected.toml`, and the table for `docs/clients.md`."""

import tomllib

from cells import STEPS


class Expected:
    """`expected.toml`: which cells are not `ok`, and why."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.entries = tomllib.load(file)["exception"]
        self.used = set()

    def find(self, cell, step):
        for number, entry in enumerate(self.entries):
            steps = entry["step"] if isinstance(entry["step"], list) else [entry["step"]]
            clients = entry.get("client", cell.client.name)
            clients = clients if isinstance(clients, list) else [clients]
            if (
                cell.client.name in clients
                and (step in steps or "*" in steps)
                and entry.get("mode", cell.mode) == cell.mode
                and entry.get("tls", cell.tls) == cell.tls
                and entry.get("resumption", cell.resumption) == cell.resumption
            ):
                self.used.add(number)
                return entry
        return None

    def surprises(self, cell):
        for step, (state, why) in cell.results.items():
            entry = self.find(cell, step)
            wanted = entry["result"] if entry else "ok"
            if state != wanted:
                yield f"{cell.name()}: {step}: {state} {why}".rstrip() + f" (expected: {wanted})"


SIGNS = {"ok": "✓", "fail": "✗", "none": "–"}


def table(cells, expected):
    """Markdown: one row per client and mode; versions with the same results share it."""
    head = ["client", "mode", "TLS", *STEPS, "resumes"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    reasons = []

    def sign(cell, step):
        state = cell.results[step][0]
        entry = expected.find(cell, step) if state != "ok" else None
        if not entry:
            return SIGNS[state]
        if entry["reason"] not in reasons:
            reasons.append(entry["reason"])
        return f"{SIGNS[state]}{reasons.index(entry['reason']) + 1}"

    rows = {}
    for cell in cells:
        resumes = "yes" if cell.resumed else "no"
        row = (cell.client.title, cell.mode, cell.resumption, tuple(sign(cell, step) for step in STEPS), resumes)
        rows.setdefault(row, []).append(cell.tls)
    for (title, mode, resumption, signs, resumes), versions in rows.items():
        mode += f", resumption {resumption}" if resumption not in ("", "enabled") else ""
        lines.append("| " + " | ".join([title, mode, ", ".join(versions), *signs, resumes]) + " |")
    notes = [f"{number}. {reason}" for number, reason in enumerate(reasons, 1)]
    return "\n".join([*lines, "", *notes])


def write_docs(path, text):
    begin, end = "<!-- matrix: begin -->", "<!-- matrix: end -->"
    document = path.read_text()
    head, rest = document.split(begin)
    _, tail = rest.split(end)
    path.write_text(f"{head}{begin}\n{text}\n{end}{tail}")


def report_uploads(cells):
    print("| client | whole | ended with close_notify (226) | resumed |\n| --- | --- | --- | --- |")
    for cell in cells:
        print(
            f"| {cell.client.title} | {cell.results['uploads'][1]} | {cell.uploads_complete} "
            f"| {cell.upload.get('resumed', 0)} of {sum(cell.upload.values())} |"
        )
    bad = [cell for cell in cells if cell.results["uploads"][0] != "ok" or cell.uploads_complete != 20]
    resuming = sum(cell.upload.get("resumed", 0) > 0 for cell in cells)
    print(f"{len(cells) - len(bad)} of {len(cells)} clients lost nothing; {resuming} resumed")
    return 1 if bad or resuming < min(7, len(cells)) else 0
