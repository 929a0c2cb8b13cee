"""Ask between two pieces of long work whether the user wants to stop.

A command is stopped by an exception that Python raises itself. A host such as ComfyUI only sets a flag, and waits until
somebody looks at it: it registers a question with `ask_between`, and everything that may take seconds calls
`stop_if_asked` at least about every second.
"""

from collections.abc import Callable

_questions: list[Callable[[], None]] = []


def ask_between(question: Callable[[], None]) -> None:
    """Call `question` between pieces of work from now on; it raises the host's own exception to stop."""
    if question not in _questions:
        _questions.append(question)


def stop_if_asked() -> None:
    """Ask all questions; returns where nobody wants to stop."""
    for question in _questions:
        question()
