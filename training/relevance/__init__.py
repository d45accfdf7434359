"""Relevance: how well each product of a list suits a typed query. Read from texts and judgments; knows no user and no behaviour."""
