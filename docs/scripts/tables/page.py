"""Write tables into a page, between comments that name them."""

import re
from collections.abc import Mapping

#: A table with its name. Comments are not shown.
PLACED = re.compile(r"<!-- table (?P<name>[\w ]+) -->\n(?P<table>.*?)<!-- end -->", re.DOTALL)


def filled(page: str, tables: Mapping[str, str]) -> str:
    """Return the page with all tables.

    ValueError if the page names a table that does not exist, twice, or not at all.
    """
    names = [match["name"] for match in PLACED.finditer(page)]
    if sorted(names) != sorted(tables):
        wrong = sorted({*names} ^ {*tables}) or sorted(names)
        raise ValueError(f"each table should be in the page once: {', '.join(wrong)}")
    return PLACED.sub(
        lambda match: f"<!-- table {match['name']} -->\n{tables[match['name']]}\n<!-- end -->", page
    )
