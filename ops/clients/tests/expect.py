"""One way to say what should be."""


class Unexpected(Exception):
    """What was seen is not what should be."""


def expect(what, holds, *seen):
    if not holds:
        raise Unexpected("\n  ".join([what, *map(repr, seen)]))
