"""Text from outside (names of files, channels, regions, parameters), made fit to be shown."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["one_line", "plain", "printable"]

#: Escape sequences of terminals (ECMA-48): CSI, then OSC and its like, then all others.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
#: What reorders the text around it, or hides.
_BIDI = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: object) -> str:
    """Return text without escape sequences, control characters and halves of characters.

    Line breaks and tabs become blanks.
    """
    bare = _ESCAPES.sub("", str(text))
    return "".join(map(_shown, bare))


def _shown(character: str) -> str:
    if character.isspace():
        return " "
    kind = unicodedata.category(character)
    if kind == "Cs":  # of a file name that is not UTF-8
        return "\ufffd"
    return "" if kind == "Cc" or character in _BIDI else character


def one_line(text: object) -> str:
    """Return text as one line with single blanks."""
    return " ".join(printable(text).split())


def plain(text: object) -> str:
    """Return text that matplotlib draws as it is: dollar signs do not begin a formula."""
    return printable(text).replace("$", r"\$")
