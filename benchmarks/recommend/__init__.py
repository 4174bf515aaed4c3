"""The recommender of examples/shop: is it good, and is it fast through the edge?"""
