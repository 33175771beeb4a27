"""A text as the string literal of a language: whatever a name or a label holds, it ends no string and runs no code."""

from collections.abc import Callable

Literal = Callable[[str], str]


def _literal(text: str, special: dict[str, str], unseen: Callable[[str], str]) -> str:
    """``special`` are the characters that mean something in a string; ``unseen`` writes one that is not printable."""
    return '"' + "".join(special.get(c) or (c if c.isprintable() else unseen(c)) for c in text) + '"'


_COMMON = {"\\": r"\\", '"': r"\""}


def python(text: str) -> str:
    """A literal of Python."""
    return _literal(text, _COMMON, lambda c: f"\\U{ord(c):08x}")


def javascript(text: str) -> str:
    """A literal of JavaScript."""
    return _literal(text, _COMMON, lambda c: f"\\u{{{ord(c):x}}}")


def swift(text: str) -> str:
    """A literal of Swift; an escaped backslash begins no interpolation."""
    return javascript(text)


def kotlin(text: str) -> str:
    """A literal of Kotlin, where ``$`` begins a template."""
    return _literal(text, {**_COMMON, "$": r"\$"}, _utf16)


def cpp(text: str) -> str:
    """A literal of C++ in UTF-8; a question mark could begin a trigraph."""
    return _literal(text, {**_COMMON, "?": r"\?"}, lambda c: "".join(f"\\{byte:03o}" for byte in c.encode()))


def _utf16(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))
