"""Tagging corpora that do not fit into memory: files in, shards through worker processes, files out."""
