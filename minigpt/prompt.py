"""What people type for a prompt where there is only one line to type on."""


def typed_prompt(text: str) -> str:
    r"""Read `\n` as a line break and `\\` as a backslash; any other backslash stays as it is."""
    return "\\".join(part.replace("\\n", "\n") for part in text.split("\\\\"))
