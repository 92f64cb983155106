"""Mutants that change nothing anyone could observe, with the reason: (file, function, change)."""

EQUIVALENT: dict[tuple[str, str, str], str] = {}
