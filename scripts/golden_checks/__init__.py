"""Compares the program with results of the public SVTAS code in PyTorch.

A golden file is an .npz with its own description, or a .json with an .npz of the same
name. `kinds` determines the kind of a file from its contents alone; one function per
kind runs our module on the file's inputs and yields a `Result` per compared array.
"""
