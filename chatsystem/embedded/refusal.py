"""Why `make run` does not start, or gave up."""


class Refusal(Exception):
    """Its message is the one sentence that the user reads: what is wrong, and what to do about it."""
