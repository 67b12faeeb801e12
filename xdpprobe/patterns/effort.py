# SPDX-License-Identifier: Apache-2.0
"""How much work and how many states a set of signatures may take.

Short regexes can stand for very much. So each piece of work is counted where it is done, over all
signatures together, and what asks for too much is refused before it is done.
"""

from xdpprobe.signature_values import Bad

WORK_LIMIT = 12_000_000  # steps of well below a microsecond


class Effort:
    """What is left to spend on a set of signatures."""

    def __init__(self, limit: int = WORK_LIMIT) -> None:
        self.left = limit

    def spend(self, steps: int) -> None:
        """Raises Bad when all is spent."""
        self.left -= steps
        if self.left < 0:
            raise Bad(
                "the signatures up to this one take too much work",
                "write counted groups and alternatives out less, or load fewer files",
            )
