"""`minigpt data`."""

import sys
from typing import TYPE_CHECKING

from minigpt.errors import UserError

if TYPE_CHECKING:
    from minigpt.known_files import KnownFile

_DATA_USAGE = """\
usage: minigpt data              the corpora and vocabularies known by name, and where they are
       minigpt data fetch NAME   download one, check it, and keep it in the cache

What is not here is looked for in MINIGPT_DATA_DIR and in the cache, and fetched when a training needs it.
"""


def data(arguments: list[str]) -> int:
    """List what is known by name, or fetch one of them."""
    from minigpt.inert import inert_line

    if {"-h", "--help"} & set(arguments):
        print(_DATA_USAGE, end="")
        return 0
    if not arguments:
        _list()
        return 0
    if arguments[0] != "fetch":
        raise UserError(f"{inert_line(arguments[0])}: `minigpt data` takes nothing, or fetch and a name")
    if len(arguments) != 2:
        raise UserError(f"minigpt data fetch takes one name: {', '.join(_fetchable())}")
    return _fetch(arguments[1])


def _fetchable() -> list[str]:
    return [name for table in _tables().values() for name, known in table.items() if known.url]


def _tables() -> "dict[str, dict[str, KnownFile]]":
    from minigpt.corpus import KNOWN_CORPORA
    from minigpt.known_files import read_known

    return {"corpus": KNOWN_CORPORA, "vocabulary": read_known("vocabularies.toml")}


def _list() -> None:
    from minigpt.cli.lists import print_table
    from minigpt.inert import inert_line
    from minigpt.token_cache import tokens_dir

    rows = [
        (known.name, kind, megabytes(known.size) if known.size else "–", known.licence, _where(known), known.about)
        for kind, table in _tables().items()
        for known in table.values()
    ]
    print_table(("name", "what", "size", "licence", "where", "about"), rows, right={2}, wraps=5, spare=(1, 3, 5))
    kept = [path.stat().st_size for path in tokens_dir().glob("*.npy")]
    if kept:
        where = inert_line(str(tokens_dir()))
        print(f"{len(kept)} encoded corpora, {megabytes(sum(kept))}, are kept in {where}; they may be deleted.")


def _where(known: "KnownFile") -> str:
    import platform

    from minigpt.inert import inert_line

    if known.module:
        version = platform.python_version()
        return f"with Python {version}" if known.is_here() else f"not here: Python {version} came without it"
    place = known.place()
    if place is None:
        return "not here"
    return inert_line(str(place)) if known.url else "with the program"


def megabytes(size: int) -> str:
    """A size for people: in megabytes, the small ones with a decimal."""
    return f"{size / 1e6:,.{0 if size >= 1e8 else 1}f} MB"


def _fetch(name: str) -> int:
    from minigpt.inert import inert_line

    known = next((table[name] for table in _tables().values() if name in table), None)
    if known is None:
        raise UserError(f"{inert_line(name)}: not known; there are {', '.join(_fetchable())}")
    if not known.url:
        raise UserError(f"{name}: comes with {'Python' if known.module else 'the program'}; there is nothing to fetch")
    try:
        path = known.find(_show_progress)
    finally:
        _show_progress("")
    print(f"{name}: {inert_line(str(path.absolute()))}")
    return 0


def _show_progress(words: str) -> None:
    # On one line that is written over; a log gets none of it.
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{words}")
        sys.stderr.flush()
