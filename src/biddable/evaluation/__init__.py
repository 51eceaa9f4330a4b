"""Judge what models write, and compare a base with the model made of it.

The path: ``suites`` (items), ``runner`` (prompts and outputs), ``checks`` and ``behaviour`` (was it
right, was it an answer), ``statistics`` (rates with intervals), ``comparison`` and ``report``.
Nothing here trains. Import from those modules.
"""
