"""What is Ascend's alone."""
