"""Errors of the command line: one line that says what to do next, and an exit code a script can rely on."""

USAGE = 2  # the command or an option is wrong
REFUSED = 3  # the API answered and said no
UNREACHABLE = 4  # nothing answered at the address


class CliError(Exception):
    """What ends a command; ``sentence`` is the one line on stderr."""

    def __init__(self, sentence: str, exit_code: int = REFUSED, *, code: str | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.exit_code = exit_code
        self.code = code  # the API's stable error code, None where the API was not asked
