"""What turns the notebooks and pages into the book, and the checks of it that need no build."""
