"""One BERT encoder and what can be learnt on it: heads, ways of tuning, transfer, fusion with images. Serves nothing by itself.

`encoder` loads it, `data` frames texts as serving does, `heads` are the tasks, `model` joins them, `tuning` says which parameters move,
`fit` trains with transformers' Trainer.
"""
