"""The tables of docs/results/reproduction.md, by kind: committed files go in, Markdown comes out.

Each module makes one kind of table. `tables.all_tables` collects them by name, and `tables.page`
writes them into the page. A study whose file is missing is named with its command.
"""
