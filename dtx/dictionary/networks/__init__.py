"""What is trained: one file for each kind of dictionary, on one base."""
