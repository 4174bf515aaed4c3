"""Datasets between the store and the machines that read them.

versions   the writes that make a version, and what needs one
cache      versions as read-only folders of a machine
folder     a folder of the user's, as a manifest
"""
