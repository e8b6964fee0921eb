"""Compares the program with numbers of the public PyTorch code.

A golden file is an .npz with its own description, or a .json with an .npz of the same
name. `kinds` says what a file holds, from its contents alone; one function per kind
runs our module on the file's inputs and yields a `Result` per compared array.
"""
