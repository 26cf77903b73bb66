"""Write the identities into docs/guides/matrix_calculus.md:  python docs/make_identities.py"""

from pathlib import Path

from wengert.symbolic import identities

PAGE = Path(__file__).resolve().parent / "guides" / "matrix_calculus.md"
HEAD, END = "<!-- identities: python docs/make_identities.py -->\n", "<!-- end -->\n"


def page(text: str) -> str:
    """The page with the table as it is now."""
    before, rest = text.split(HEAD)
    after = rest.split(END)[1]
    return before + HEAD + "\n" + identities() + "\n\n" + END + after


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
