"""Extensions of Sphinx by which the book is built."""
