"""Searches: what to try, in what order, on Ray, and what came of it. `python -m training.search --help`.

`space` and `choices` say what may be tried, `samplers` propose, `order` hands out so that nothing depends on who finishes first,
`journal` keeps what is known on disk, `claim` lets one driver at a time work under a name, `tuning` runs trials on Ray (the only module
here that knows it), `choose` picks. Stages: `ensemble`, on kept arrays, and `rankers`, BERT fine-tunes that leave such arrays.
"""
